"""Division of samples into training and validation by their names.

A hash of the name decides, not chance: the division stays as data are added, on every machine.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

Grouping = Literal["name", "folder", "sequence"]


def split_by_name(names: Sequence[str], share: float, by: Grouping = "name") -> set[str]:
    """The names that are for validation.

    Args:
        names: of the samples, with their folders.
        share: of them; 0 gives none, 1 all, between them there is at least one on either side.
        by: what stays together: nothing, a folder, or a sequence, that is the names that differ in
            their last number only. One folder or sequence alone is cut in two, so that its last
            part is for validation.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_group(name, by), []).append(name)
    if share <= 0 or len(names) < 2:
        return set(names) if share >= 1 else set()
    if share >= 1:
        return set(names)
    if len(groups) == 1:
        ordered = sorted(names, key=_natural)
        count = min(max(1, round(len(ordered) * share)), len(ordered) - 1)
        return set(ordered[-count:])
    ranks = sorted((_hash(group), group) for group in groups)
    chosen = [group for rank, group in ranks if rank < share]
    chosen = chosen[: len(groups) - 1] or [ranks[0][1]]
    return {name for group in chosen for name in groups[group]}


def _group(name: str, by: Grouping) -> str:
    if by == "folder":
        return PurePosixPath(name).parent.as_posix()
    return re.sub(r"\d+(\D*)$", r"\1", name) if by == "sequence" else name


def _hash(text: str) -> float:
    """0 to below 1."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts frame_9 before frame_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
