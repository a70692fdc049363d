"""Files of a folder by suffix, and a word about those that are left out."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from paddleseg_ext.common.log import warn

_EXAMPLES = 3


def files_below(
    folder: Path, suffixes: Collection[str], hidden: bool = True, without: Path | None = None
) -> tuple[list[Path], list[Path]]:
    """The files with one of the suffixes, in any case, in a folder and those below; sorted.

    Args:
        folder: where to look.
        suffixes: in lower case, with the dot.
        hidden: whether names that begin with a dot count, too: killed writers, and macOS on foreign
            disks, leave such files.
        without: a folder below that is not looked into.

    Returns:
        The files, and all else: other suffixes, what is no regular file, linked folders.
    """
    taken: list[Path] = []
    left: list[Path] = []
    apart = None if without is None else without.resolve()
    for root, folders, names in os.walk(folder):
        place = Path(root)
        folders[:] = [name for name in folders if (place / name).resolve() != apart]
        left += [place / name for name in folders if (place / name).is_symlink()]
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
            names = [name for name in names if not name.startswith(".")]
        for name in names:
            file = place / name
            fits = file.suffix.lower() in suffixes and file.is_file()
            (taken if fits else left).append(file)
    return sorted(taken), sorted(left)


def warn_of_left_out(folder: Path, left: Sequence[Path], suffixes: Collection[str]) -> None:
    """Say how many files of a folder were left out, by suffix, with examples."""
    seen = [path for path in left if not path.name.startswith(".")]
    if not seen:
        return
    kinds = Counter(path.suffix.lower() or "without suffix" for path in seen)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    names = [os.fsencode(path.relative_to(folder)).decode("utf-8", "replace") for path in seen]
    examples = ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
    warn(
        f"{folder}: {len(seen)} other files left out ({counts}): {examples}; taken are regular "
        f"files named {' '.join(suffixes)}"
    )
