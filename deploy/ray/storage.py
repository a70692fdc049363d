"""Paths of images and results: fsspec's, local or in an object store."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.lists import encoding_problem, list_lines

STEM_BYTES = 100  # of an image's name in its output's name; file systems allow 255 in all


def open_path(path: str, where: str) -> tuple[Any, str]:
    """The file system of a path, and the path's name there.

    Raises:
        UsageError: naming `where`: no such protocol, or its package is not installed.
    """
    import fsspec

    try:
        filesystem, name = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:  # fsspec's for these two
        raise UsageError(f"{where}: '{printable(path)}': {error}") from None
    return filesystem, name


def absolute(path: str, where: str) -> str:
    """The same path for every process: a local one absolute, any other as it is.

    Raises:
        UsageError: as `open_path`, or a name that is not UTF-8, which no table can hold.
    """
    if not is_text(path):
        raise UsageError(f"{where}: '{printable(path)}' is not UTF-8; choose another name")
    filesystem, name = open_path(path, where)
    return name if is_local(filesystem) else path


def is_local(filesystem: Any) -> bool:
    """Whether the file system is this machine's."""
    return "file" in filesystem.protocol


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; any other has lone surrogates in Python."""
    return printable(name) == name


def printable(name: str) -> str:
    r"""A name in which bytes that are not UTF-8 are written out: `caf\udce9.png`."""
    return name.encode("utf-8", "backslashreplace").decode()


def list_images(path: str, save_dir: str) -> list[str]:
    """Every image below a folder or in a list, once, sorted, as full fsspec paths.

    Args:
        path: a folder, a list in UTF-8 with one path per line, or one image.
        save_dir: files below it are left out: the label maps of one run are no images of the next.

    Raises:
        UsageError: there is no image, or the list cannot be read.
    """
    filesystem, root = open_path(path, "--images")
    if not filesystem.exists(root):
        raise UsageError(f"--images: '{printable(path)}' does not exist")
    if filesystem.isdir(root):
        found = [
            filesystem.unstrip_protocol(name)
            for name in filesystem.find(root)
            if name.lower().endswith(IMAGE_SUFFIXES)
        ]
    elif root.lower().endswith(IMAGE_SUFFIXES):
        found = [filesystem.unstrip_protocol(root)]
    else:
        found = _read_list(filesystem, root)
    if not found:
        raise UsageError(f"--images: no image is in '{printable(path)}'")
    results = _real(full_path(save_dir, "--save_dir"))
    images = {image for image in found if not _is_below(image, results)}
    if not images:
        raise UsageError(
            f"--save_dir: every image of '{printable(path)}' lies below '{save_dir}', where the "
            "results go, and is none to segment; take another --save_dir"
        )
    return sorted(images)


def _read_list(filesystem: Any, name: str) -> list[str]:
    where = f"--images: '{printable(name)}'"
    lines = list_lines(filesystem.cat_file(name), where)
    for number, line in enumerate(lines, 1):
        if problem := encoding_problem(line):
            raise UsageError(
                f"{where}, line {number}: {problem}; a folder, an image, or a list of paths in "
                "UTF-8 is expected"
            )
    return [
        full_path(line.strip(), f"{where}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def full_path(path: str, where: str) -> str:
    """A path with its protocol, a local one absolute.

    Raises:
        UsageError: as `open_path`.
    """
    filesystem, name = open_path(path, where)
    full: str = filesystem.unstrip_protocol(name)
    return full


def _is_below(path: str, folder: str) -> bool:
    return (_real(path.rpartition("/")[0]) + "/").startswith(folder.rstrip("/") + "/")


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    """A full path, a local one without symbolic links."""
    protocol, separator, name = folder.partition("://")
    return (
        f"file://{os.path.realpath(name)}" if (protocol, separator) == ("file", "://") else folder
    )


def output_name(path: str) -> str:
    """A name that no other input has: its own, and a hash of its path.

    A repeated run of an image therefore replaces its file.
    """
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    stem = PurePosixPath(path).stem.encode()[:STEM_BYTES].decode(errors="ignore")
    return f"label_maps/{digest[:2]}/{stem}-{digest}.png"


def write_whole(path: str, content: bytes) -> None:
    """Write a file atomically.

    An object store does so by itself; on a file system it is a temporary name and a move.
    """
    filesystem, name = open_path(path, "output")
    filesystem.makedirs(str(PurePosixPath(name).parent), exist_ok=True)
    if not is_local(filesystem):
        filesystem.pipe_file(name, content)
        return
    temporary = f"{name}.{os.getpid()}.writing"
    filesystem.pipe_file(temporary, content)
    Path(temporary).replace(name)  # fsspec's `mv` moves it into a folder of that name
