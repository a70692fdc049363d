"""Processes that end cleanly: at a signal, with their parent, and also while Paddle starts."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

POLL_SECONDS = 1.0
REPEAT_SECONDS = 1.0
# From `docker stop`, a scheduler or `timeout`, and from a terminal that closes; not on Windows.
ENDING_SIGNALS = [each for each in signal.Signals if each.name in ("SIGTERM", "SIGHUP")]


class Terminated(KeyboardInterrupt):
    """One of `ENDING_SIGNALS` has come; like Ctrl-C, it ends the command.

    On its way out it passes every `with` and `finally`, so that temporary files are deleted.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def ending_signals_raise() -> Iterator[None]:
    """Raise `Terminated` in the main thread when one of the signals comes within the block.

    Processes forked meanwhile leave them to the system, as do programs that are started. One that
    is ignored, as by `nohup`, stays ignored.
    """
    heard = [each for each in ENDING_SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    handler = _RaiseTerminated()
    before = {each: signal.signal(each, handler) for each in heard}
    finder = _PaddleFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for each, earlier in before.items():
            signal.signal(each, earlier or signal.SIG_DFL)


class _RaiseTerminated:
    """The handler. `timeout` sends the signal twice in a row: the second must not end the cleanup.

    One that comes later raises again, should the first exception have been swallowed.
    """

    _last = -math.inf

    def __call__(self, number: int, _: Any) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > REPEAT_SECONDS:
            raise Terminated(number)


def _leave_signals_to_the_system() -> None:
    for each in ENDING_SIGNALS:
        if isinstance(signal.getsignal(each), _RaiseTerminated):
            signal.signal(each, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_leave_signals_to_the_system)


class _PaddleFinder(MetaPathFinder):
    """Finds Paddle and gives Python its handler of SIGTERM back, which Paddle's import replaces."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of Paddle; None for everything else."""
        spec = PathFinder.find_spec(name, path, target) if name == "paddle" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_take_back(module: ModuleType) -> None:
            with held_back(signal.SIGTERM):
                execute(module)
                _take_sigterm_back()

        spec.loader.exec_module = execute_and_take_back  # type: ignore[method-assign]
        return spec


def _take_sigterm_back() -> None:
    """Set the handler that Python knows of once more; only the main thread can."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def child_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen]:
    """Start a program, and wait for it at the end of the block; what ends this process ends it.

    At Ctrl-C it is only waited for: the terminal sends that to both.

    Args:
        command: the program and its arguments.
        options: of `subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        except Terminated:
            process.terminate()
            raise


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
    """Import Paddle, and take SIGTERM from it: Python's handler has it, or the system.

    Paddle's own handler prints a stack trace. It takes locks for that, which the interrupted
    thread may hold: while Paddle starts, such a process can hang for good. Until it is out of the
    way, the signal waits.
    """
    with held_back(signal.SIGTERM):
        import paddle

        paddle.disable_signal_handler()
        _take_sigterm_back()


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
