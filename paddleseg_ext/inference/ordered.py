"""Work done beside the caller, in threads, with the results in the order of the items.

OpenCV, Pillow, zlib, numba and the runtimes release Python's lock while they work, so threads are
enough. What is under way is bounded, which bounds memory, too.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from paddleseg_ext.common.machine import use_every_core

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def worker_threads(count: int) -> Iterator[Executor | None]:
    """A pool of `count` threads; None for 0.

    However it ends, what has begun is finished and what waits is dropped: an interrupt leaves no
    thread behind that still writes.
    """
    if count == 0:
        yield None
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="pipeline", initializer=use_every_core)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    pool: Executor | None,
    most_under_way: int,
    size_of: Callable[[Item], int] | None = None,
    most_bytes: int = 0,
) -> Generator[Result, None, None]:
    """`function` of each item, in order.

    Items are taken, by the caller's thread, while fewer than `most_under_way` are being worked on
    or wait to be fetched. So where `items` is itself a generator that works in the caller's thread
    (the network), that goes on while earlier items are finished beside it.

    Args:
        function: what is done; an exception of its comes out where the result would have.
        items: taken one by one.
        pool: None calls `function` here and now.
        most_under_way: at least 1.
        size_of: how many bytes an item holds, where `most_bytes` bounds those of all under way,
            too; one of any size is always let through.
        most_bytes: see `size_of`.
    """
    if pool is None:
        yield from map(function, items)
        return
    under_way: deque[tuple[Future[Result], int]] = deque()
    held = 0
    try:
        for item in items:
            size = size_of(item) if size_of else 0
            under_way.append((pool.submit(function, item), size))
            del item  # it may be large, and the next one takes its time
            held += size
            while len(under_way) >= most_under_way or (held > most_bytes and len(under_way) > 1):
                future, size = under_way.popleft()
                yield future.result()
                held -= size
        while under_way:
            yield under_way.popleft()[0].result()
    finally:
        for future, _ in under_way:
            future.cancel()
