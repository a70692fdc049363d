"""Processes that belong together: helpers that end with their parent, and Paddle's start."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_SECONDS = 1.0


def end_with_parent(parent: int, clean_up: Callable[[], None] | None = None) -> None:
    """End this process about a second after its parent ends, whatever it does then.

    A parent that is killed cannot end its helpers, and a helper that waits at a pipe never
    returns: other helpers hold the pipe's ends, too. A thread looks, for that works on every
    system. Linux's PR_SET_PDEATHSIG would fire when the parent's thread ends, too.

    Args:
        parent: its process id, taken in the parent.
        clean_up: called before the end.
    """
    threading.Thread(target=_watch, args=(parent, clean_up), daemon=True).start()


def _watch(parent: int, clean_up: Callable[[], None] | None) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if clean_up is not None:
        clean_up()
    os._exit(1)


def import_paddle() -> None:
    """Import Paddle, and leave SIGTERM to the system: it ends this process at once.

    Paddle's own handler prints a stack trace. It takes locks for that, which the interrupted
    thread may hold: while Paddle starts, such a process can hang for good. Until it is out of the
    way, the signal waits.
    """
    with held_back(signal.SIGTERM):
        import paddle

        paddle.disable_signal_handler()


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Let a signal to this thread wait until the block ends; Windows has no such call."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
