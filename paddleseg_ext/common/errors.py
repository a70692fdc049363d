"""The ways a command ends badly, and the one place that turns them into an exit status.

0 is done, 1 a check failed or work was lost, 2 wrong use; 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
Wrong use and a disk that cannot be written to give one line without a traceback. Any other error is
a defect of this package and keeps its traceback. A reader of the output that goes away (`| head`)
ends no work.
"""

import errno
import io
import os
import reprlib
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from paddleseg_ext.common import chatter
from paddleseg_ext.common.limits import process_limit
from paddleseg_ext.common.processes import Terminated, ending_signals_raise

STATUS_DONE = 0
STATUS_FAILED = 1
STATUS_USAGE = 2
STATUS_OF_SIGNALS = 128  # and the signal's number, as a shell has it

_LISTED_NAMES = 8
_LONGEST = 200  # letters of a value that a message quotes

_QUOTES = reprlib.Repr()
_QUOTES.maxlevel, _QUOTES.maxdict, _QUOTES.maxlist, _QUOTES.maxtuple = 4, 8, 8, 8
_QUOTES.maxstring = _QUOTES.maxother = _LONGEST

# Errors of a disk that is full, over quota, read-only, another user's or broken, and of a limit of
# a file's size (ulimit -f).
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG}
# Errors where something else is in the place of a file or folder.
_OCCUPIED = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_OPENCV_NO_MEMORY = -4  # the `code` of `cv2.error`, StsNoMem
# Errors that another name in the same folder may not have.
_OF_ONE_NAME = _OCCUPIED | {errno.EACCES, errno.EPERM, errno.EILSEQ, errno.EINVAL}


class UsageError(Exception):
    """Wrong flags, configuration, checkpoint or data: the user can mend it. Exit status 2.

    The message says what was expected, what came, and what to do.
    """


class DataError(UsageError):
    """An image or label file that cannot be used. The message opens with the file's name.

    Where one bad file must not end the run (`infer.py`), this is what is caught and counted.
    """


class MissingData(UsageError):
    """A file or folder that does not exist, such as a data set that is on another machine.

    Commands that can do without the data catch this and nothing wider: a wrong key or value is an
    error on every machine.
    """


class CheckFailed(Exception):
    """A comparison failed or some of the work was lost. Exit status 1."""


def cut(text: str, most: int = _LONGEST) -> str:
    """The text, its middle left out where it is longer than `most` letters."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def shown(value: object) -> str:
    """A value of a file, as a message quotes it; of a large one only some hundred letters.

    The whole is never built: with aliases, a few letters of yml print as gigabytes.
    """
    return cut(_QUOTES.repr(value), 3 * _LONGEST)


def nearest_name(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'momentum'?)`, or the known names when nothing is close.

    Args:
        name: a key of a yml, which may be a number or a truth value.
        known: what it could have been.
    """
    folded: dict[str, str] = {}
    for known_name in known:
        folded.setdefault(known_name.lower(), known_name)  # ours come before PaddleSeg's
    close = get_close_matches(cut(str(name)).lower(), list(folded), n=1, cutoff=0.6)
    if close:
        return f" (did you mean '{folded[close[0]]}'?)"
    return f" (known: {', '.join(sorted(folded.values()))})"


def check_choice(where: str, value: object, known: Collection[str], kind: str = "") -> None:
    """Refuse a value that is none of the known ones, naming the nearest.

    Args:
        where: the value's place, which the message begins with.
        value: of a flag, a yml or a call.
        known: what it may be.
        kind: a word for it in the message, such as `key`.

    Raises:
        UsageError: the value is unknown.
    """
    if not isinstance(value, Hashable) or value not in known:
        quoted = shown(value) if isinstance(value, list | dict) else cut(str(value))
        named = f"{kind} '{quoted}'".lstrip()
        raise UsageError(f"{where}: unknown {named}{nearest_name(value, known)}")


def check_keys(where: str, section: Iterable[object], known: Collection[str]) -> None:
    """Refuse the first key of a section that is not known, naming the nearest."""
    for key in section:
        check_choice(where, key, known, "key")


def check_count(
    where: str, value: Any, least: int, most: int | None = None, optional: bool = False
) -> None:
    """Refuse what is not a whole number in a range.

    Args:
        where: the value's place, which the message begins with.
        value: of a call.
        least: the smallest that is allowed.
        most: the largest; None means any.
        optional: whether None is allowed, too.

    Raises:
        UsageError: the value is none of these.
    """
    if optional and value is None:
        return
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not least <= value <= (value if most is None else most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{where}: a whole number, {bounds}, is expected, got {shown(value)}")


@contextmanager
def failing_alone() -> Iterator[None]:
    """The work on one item of many: what ends only that item is a `DataError`.

    Raises:
        DataError: the item needs more memory than there is, or its result's name cannot be
            written.
    """
    try:
        yield
    except MemoryError as error:
        raise _no_memory(error) from error
    except OSError as error:
        if error.errno not in _OF_ONE_NAME:
            raise
        raise DataError(
            f"'{error.filename}' cannot be written: {error.strerror}; rename the input or take "
            "another folder"
        ) from error
    except Exception as error:
        if getattr(error, "code", None) != _OPENCV_NO_MEMORY:
            raise
        raise _no_memory(error) from error


def _no_memory(error: Exception) -> DataError:
    reason = f": {str(error).strip().splitlines()[0]}" if str(error).strip() else ""
    return DataError(f"there is not enough memory for it{reason}; make it smaller")


def check_path(where: str, value: Any) -> None:
    """Refuse what is no path.

    Raises:
        UsageError: naming what came.
    """
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{where}: a path is expected, got {shown(value)}")


def require_none(problems: Sequence[str], title: str, error: type[Exception] = UsageError) -> None:
    """Raise `error` with the title and all problems, so that they can be mended in one go."""
    if problems:
        raise error("\n  ".join([title, *problems]))


def shortened(names: Sequence[str]) -> str:
    """The names, for a message: all, or the first and their number."""
    more = f", ... ({len(names)} in all)" if len(names) > _LISTED_NAMES else ""
    return ", ".join(names[:_LISTED_NAMES]) + more


def reason_of(error: BaseException) -> str:
    """The kind of an error of a library and its first line, without Paddle's stack of calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith("(")] or lines
    return f"{type(error).__name__}: {cut(reasons[0], 300)}" if reasons else type(error).__name__


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its status; the last line of every script."""
    keep_output_open()
    chatter.silence()
    try:
        with ending_signals_raise():
            status = main() or STATUS_DONE
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        _print_error(f"error: {error}")
        status = STATUS_USAGE
    except CheckFailed as error:
        _print_error(f"failed: {error}")
        status = STATUS_FAILED
    except Terminated as ended:
        _print_error("terminated")
        status = STATUS_OF_SIGNALS + ended.number
    except KeyboardInterrupt:
        _print_error("interrupted")
        status = STATUS_OF_SIGNALS + signal.SIGINT
    except OSError as error:
        if error.errno not in _UNWRITABLE | _OCCUPIED:
            raise
        where = f": {error.filename}" if error.filename else ""
        if error.errno == errno.EFBIG:
            limit = process_limit("RLIMIT_FSIZE")
            where = where if limit is None else f" (ulimit -f: {limit // 1024} KiB){where}"
        _print_error(
            f"failed: {error.strerror}{where}; checkpoints, bundles and label maps are "
            "written whole or not at all, so those there are good: mend that and run again"
        )
        status = STATUS_FAILED
    sys.exit(status)


class _Outlet(io.FileIO):
    """Standard output or error; `/dev/null` after its reader has closed it."""

    def write(self, data: Any) -> int:
        """The number of bytes written."""
        try:
            written = super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and not self._is_closed_terminal(error):
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            written = super().write(data)
        return written or 0

    def _is_closed_terminal(self, error: OSError) -> bool:
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)


def keep_output_open() -> None:
    """Make a closed standard output or error, now or later, end no work.

    Characters that the output's encoding does not have, such as the bytes of a file's name that is
    not UTF-8, are written as escapes.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue  # a test's or a notebook's own
        if stream is None:  # closed from the start: the next file must not get its number
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        else:
            stream.flush()
        outlet = io.BufferedWriter(_Outlet(number, "w", closefd=False))
        text = chatter.QuietText if number == 2 else io.TextIOWrapper
        opened = text(
            outlet,
            encoding=stream.encoding if stream is not None else "utf-8",
            errors="backslashreplace",
            line_buffering=stream is None or stream.line_buffering or stream.write_through,
        )
        setattr(sys, name, opened)


def _print_error(line: str) -> None:
    """Print to standard error, below the progress line of the interrupted work.

    The error's frames keep the iterators that draw it. Clearing them ends their lines first.
    """
    error = sys.exc_info()[1]
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    print(line, file=sys.stderr)
