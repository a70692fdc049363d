"""Progress with an ETA for anything that takes longer than a few seconds."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LOG_INTERVAL_S = 10.0


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` with a progress line (count, rate, ETA) on stderr.

    In a terminal the line is live. In a log file there is a line every ten seconds, and one at the
    end of what took longer.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, mininterval=0.2, dynamic_ncols=True)
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    started = written = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - written >= LOG_INTERVAL_S:
            written = now
            print(_progress_line(description, done, total, now - started), file=sys.stderr)
    if written > started:
        print(f"{description}: {done} in {format_eta(time.monotonic() - started)}", file=sys.stderr)


def _progress_line(description: str, done: int, total: int | None, seconds: float) -> str:
    rate = f"{done / seconds:.3g} a second"
    if total is None:
        return f"{description}: {done}, {rate}"
    remaining = (total - done) * seconds / done
    return f"{description}: {done}/{total}, {rate} | ETA {format_eta(remaining)}"


def format_eta(seconds: float) -> str:
    """`hh:mm:ss`, as PaddleSeg prints it."""
    whole = max(0, int(seconds))
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
