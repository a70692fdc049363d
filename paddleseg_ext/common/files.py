"""Files that are either whole or not there.

Everything this project writes is written to a temporary name in the target's folder, synced, and
renamed. A full disk or a kill therefore never leaves a broken file under its final name.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from paddleseg_ext.common.errors import MissingData, UsageError
from paddleseg_ext.common.limits import process_limit

TEMPORARY_PREFIX = ".writing-"
LOCK_NAME = ".lock"
LONGEST_SUFFIX = 32  # bytes
USUAL_FILES = ("model.pdparams", "val.json")  # of a folder that is named in a file's place


def _sync(file: Path) -> None:
    with open(
        file, "rb+" if os.name == "nt" else "rb"
    ) as opened:  # Windows syncs what it may write
        os.fsync(opened.fileno())


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write a file to; on success it becomes `path` in one step.

    For writers that want a file name (PaddlePaddle, OpenCV). The temporary name keeps the suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=TEMPORARY_PREFIX, suffix=_short_suffix(path), dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        with writers_errors(path, temporary):
            yield temporary
        _sync(temporary)
        # mkstemp makes files private; what we write is as readable as what anyone else writes.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        _name(error, path, temporary)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _name(error: OSError, path: Path, temporary: Path) -> None:
    """Let an error name the target: a full disk names nothing, a rename the temporary file."""
    if error.filename is None or str(error.filename) == str(temporary):
        error.filename = str(path)


def _short_suffix(path: Path) -> str:
    """The last two suffixes, or one: with them the temporary name is no longer than a name may be.

    What follows an early dot of a long name counts as its suffix.
    """
    both = "".join(path.suffixes[-2:])
    return both if len(os.fsencode(both)) <= LONGEST_SUFFIX else path.suffix[-LONGEST_SUFFIX:]


@contextmanager
def writers_errors(path: Path, temporary: Path) -> Iterator[None]:
    """Find what writers in C++ (Paddle, OpenCV, ONNX) hide: a file cut off where it may not grow.

    They end without an error, and what reads the file next calls it damaged.

    Raises:
        OSError: a file has the size that `ulimit -f` allows; or something failed and the disk is
            full.
    """
    try:
        yield
    except Exception as error:
        cause = _cut_off(path, temporary)
        if cause is None and not isinstance(error, OSError):
            is_full = shutil.disk_usage(path.parent).free == 0
            cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) if is_full else None
        if cause is None:
            raise
        raise cause from error
    if cause := _cut_off(path, temporary):
        raise cause


def _cut_off(path: Path, temporary: Path) -> OSError | None:
    limit = process_limit("RLIMIT_FSIZE")
    if limit is None:
        return None
    written = temporary.rglob("*") if temporary.is_dir() else [temporary]
    for file in written:
        if file.is_file() and file.stat().st_size >= limit:
            name = path / file.relative_to(temporary)
            return OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(name))
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    r"""Write `text` as UTF-8 to `path`, whole or not at all.

    Bytes of a file's name that are not UTF-8 are written as `\udce9`, which JSON reads back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN is not JSON: pass `None` for what has no value."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Give a temporary directory; on success it becomes `path`, replacing what was there.

    Replacing is two renames, so `path` may be missing for an instant: use it for folders that
    are written once (checkpoints of one iteration, bundles), not for ones that others watch.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    temporary.chmod(0o777 & ~_umask())
    try:
        with writers_errors(path, temporary):
            yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            _take_place(temporary, path)
        else:
            temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        _name(error, path, temporary)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(new: Path, path: Path) -> None:
    """Move a folder to where another one is; that one comes back where this is interrupted."""
    aside = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    previous = aside / path.name
    try:
        path.replace(previous)
        new.replace(path)
    finally:
        if not path.exists():
            previous.replace(path)
        shutil.rmtree(aside, ignore_errors=True)


def delete_directory(path: str | Path) -> None:
    """Delete a folder so that it is never seen half empty, also where this process is killed."""
    path = Path(path)
    doomed = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    path.replace(doomed / path.name)
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def sole_writer(directory: str | Path, flag: str) -> Iterator[None]:
    """Lock `directory` against other writers inside; the lock ends with this process.

    Raises:
        UsageError: another process writes there; `flag` names what to change.
    """
    with open(Path(directory) / LOCK_NAME, "wb") as lock:
        try:
            _lock(lock)
        except (BlockingIOError, PermissionError):
            raise UsageError(
                f"{flag}: another process is writing to '{directory}'; wait for it, or take "
                "another folder"
            ) from None
        yield


def _lock(file: IO[bytes]) -> None:
    """Lock a file for this process alone; raises `OSError` where another one has it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    # Not `flock`: reading processes would inherit that lock and keep it when we are killed.
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def delete_leftovers(directory: str | Path) -> None:
    """Delete the temporary files of killed writers, in a folder without other writers."""
    for left in Path(directory).glob(f"{TEMPORARY_PREFIX}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def sha256_of(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def located(path: str | Path) -> str:
    """A path for a message, with the folder that it is relative to."""
    path = Path(path)
    below = "" if path.is_absolute() else f" (relative to the working directory {Path.cwd()})"
    return f"'{path}'{below}"


def require_file(path: str | Path, what: str) -> Path:
    """`path` if it is a readable, non-empty file.

    Raises:
        MissingData: it does not exist; `what` names its role in the message.
        UsageError: it is a folder (then the file in it is named), or empty.
    """
    path = Path(path)
    if not path.exists():
        raise MissingData(f"{what}: '{path}' does not exist")
    if path.is_dir():
        inside = next((path / name for name in USUAL_FILES if (path / name).is_file()), None)
        meant = f" (did you mean '{inside}'?)" if inside else ""
        raise UsageError(f"{what}: '{path}' is a folder; a file is expected{meant}")
    if not path.is_file():
        raise UsageError(f"{what}: '{path}' is no regular file (a pipe, device or socket)")
    if path.stat().st_size == 0:
        raise UsageError(f"{what}: '{path}' is empty")
    return path


def require_writable(directory: str | Path, flag: str) -> Path:
    """`directory`, created if need be, after a probe that it can be written to.

    Raises:
        UsageError: naming `flag`, so that a long run does not end at its first save.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=directory):
            pass
    except OSError as error:
        raise UsageError(f"{flag}: cannot write to '{directory}': {error.strerror}") from None
    return directory


def require_replaceable(
    directory: str | Path, marker: str, names: Collection[str], flag: str
) -> None:
    """`directory` is missing, empty, or what an earlier run wrote: for `atomic_directory`.

    Args:
        directory: that will be replaced.
        marker: a file that only such a run writes.
        names: of everything that it may write there.
        flag: for the message.

    Raises:
        UsageError: something else is there, which would be lost.
    """
    directory = Path(directory)
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{flag}: '{directory}' is a file; a folder is expected")
    found = {entry.name for entry in directory.iterdir()}
    strange = sorted(found - {marker, *names})
    if found and (strange or marker not in found):
        holds = f"holds '{strange[0]}'" if strange else f"has no {marker}"
        raise UsageError(
            f"{flag}: '{directory}' is not empty and {holds}: nothing that was written by this "
            "command, which would replace it; name a new folder"
        )


def require_room(directory: str | Path, needed: int, flag: str, what: str) -> None:
    """The disk of `directory` has `needed` bytes free for `what`.

    Raises:
        UsageError: naming `flag`, so that a long run does not end at a later save.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UsageError(
            f"{flag}: the disk of '{directory}' has {free / 1e6:.0f} MB free, and {what} take up "
            f"to {needed / 1e6:.0f} MB; free some space or take another folder"
        )
