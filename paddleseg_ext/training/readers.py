"""The processes, or the thread, that read training samples ahead of the network."""

import gc
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.processes import end_with_parent
from paddleseg_ext.training.sampling import EpochBatches, SeededSamples, batch_or_failure

if TYPE_CHECKING:
    from paddle import Tensor

# Where Paddle passes tensors between processes, as paddle_PID_....
SHARED_MEMORY = Path("/dev/shm")
# By name: Windows lacks some of them.
_REMEDIES = {
    "SIGKILL": "probably for lack of memory: use fewer --num_workers or smaller images",
    "SIGBUS": "probably for lack of shared memory: use fewer --num_workers, a smaller batch, "
    "or give the container more (docker run --shm-size)",
    "SIGTERM": "which another process sent",
}
_DEFECT = "--num_workers 0 shows the error of a defect in a transform or library"


def read_batches(
    samples: SeededSamples, batches: EpochBatches, num_workers: int
) -> Iterator[Sequence["Tensor"]]:
    """Yields the arrays of `batch_or_failure`, one batch after the other.

    The reading processes end with this one, also when it is killed.

    Args:
        samples: read by the keys of `batches`.
        batches: the batches to come.
        num_workers: processes; 0 reads in a thread.

    Raises:
        CheckFailed: a reading process has ended.
    """
    from paddle.io import DataLoader

    loader = DataLoader(
        samples,
        batch_sampler=batches,
        collate_fn=batch_or_failure,
        num_workers=num_workers,
        return_list=True,
        worker_init_fn=partial(_begin_reader, os.getpid()),
    )
    logging.getLogger().addFilter(_is_not_of_loader)  # the error below says the same
    # A reading process must not collect what this one has of an earlier loader: destroying its
    # queue, for whose threads a fork has no place, waits for ever.
    gc.collect()
    gc.freeze()
    with _children_unheard():
        iterator = iter(loader)
    gc.unfreeze()
    try:
        yield from iterator
    except SystemError:  # Paddle's reading thread has closed the queue
        lost = [worker for worker in iterator._workers if worker.exitcode not in (None, 0)]
        if not lost:
            raise
        for worker in iterator._workers:
            worker.kill()  # the lost one may have held the lock that the others wait for
            worker.join()
            _free_shared_memory(worker.pid)
        raise CheckFailed(_describe_loss(lost[0].exitcode)) from None


@contextmanager
def _children_unheard() -> Iterator[None]:
    """Undo what the block makes the end of a child process do; Windows has no such signal.

    Paddle's handler would raise wherever the main thread is just then, in the middle of a
    checkpoint, too. Its reading thread notices the loss as well.
    """
    if not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _is_not_of_loader(record: logging.LogRecord) -> bool:
    return record.module != "dataloader_iter"


def _begin_reader(parent: int, _: int) -> None:
    end_with_parent(parent, partial(_free_shared_memory, os.getpid()))


def _free_shared_memory(pid: int) -> None:
    """Delete the tensors that a process has left for the one that ended."""
    for path in SHARED_MEMORY.glob(f"paddle_{pid}_*"):
        path.unlink(missing_ok=True)


def _describe_loss(status: int) -> str:
    """A line about a reading process that has ended with this status of `multiprocessing`."""
    how, remedy = f"has ended with status {status}", _DEFECT
    if status < 0:
        number = signal.Signals(-status)
        how = f"was ended by signal {number} ({number.name})"
        remedy = _REMEDIES.get(number.name, _DEFECT)
    return (
        f"a process that reads samples {how}, {remedy}. --resume_model auto continues from the "
        "last checkpoint"
    )
