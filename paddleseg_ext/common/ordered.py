"""Work in threads beside the caller, with the results in the order of the items.

OpenCV, Pillow, zlib, numba and the runtimes release Python's lock while they work, so threads are
enough. The number of items in work is bounded, which bounds the memory, too.
"""

import math
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

    At the end, also after an interrupt, calls that have begun are finished and waiting ones are
    dropped, so that no thread is left that still writes.
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
    size_of: Callable[[Item], int] = lambda _: 0,
    most_bytes: float = math.inf,
) -> Generator[Result, None, None]:
    """Yields `function` of each item, in order.

    The caller's thread takes items while fewer than `most_under_way` are in work or wait to be
    fetched. Where `items` is a generator that works in the caller's thread (the network), it
    continues while earlier items are finished in the pool.

    Args:
        function: its exceptions are raised in place of the result.
        items: taken one by one.
        pool: None calls `function` in the caller's thread.
        most_under_way: at least 1.
        size_of: bytes that an item holds.
        most_bytes: bound on the sum of these; one item of any size is always accepted.
    """
    if pool is None:
        yield from map(function, items)
        return
    under_way: deque[tuple[Future[Result], int]] = deque()
    held = 0
    try:
        for item in items:
            size = size_of(item)
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
