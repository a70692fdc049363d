"""Progress with an ETA for anything that takes longer than a few seconds."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` with a progress line (count, rate, ETA) on stderr.

    In a terminal the line is live; in a log file it is repeated every ten seconds at most.
    """
    live = sys.stderr.isatty()
    yield from tqdm(
        items, desc=description, total=total, mininterval=0.2 if live else 10.0, dynamic_ncols=True
    )


def format_eta(seconds: float) -> str:
    """`hh:mm:ss`, as PaddleSeg prints it."""
    whole = max(0, int(seconds))
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
