"""The text of image lists: lines and names, however an editor or a system has saved them."""

import re
from collections.abc import Sequence

from paddleseg_ext.common.errors import UsageError

# How a text in these encodings begins; PowerShell's `>` writes UTF-16.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_UNWRITABLE = "\t\r\n"  # they end a name or a line


def list_lines(content: bytes, where: str) -> list[str]:
    """The lines of a list, without their ends.

    Lines end at LF, CR LF or CR only: U+2028 or a form feed may be part of a name. Bytes that are
    no UTF-8 become surrogates, as in Python's names of files, for a disk may have such names.

    Args:
        content: of the file: UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        where: what messages begin with.

    Raises:
        UsageError: a NUL byte, or a text that its byte order mark does not fit.
    """
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    try:
        lines = re.split("\r\n|\n|\r", content.decode(encoding, errors))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where}: begins as {encoding.upper()}, and is none at byte {error.start}; save it as "
            "UTF-8"
        ) from None
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise UsageError(
                f"{where}, line {number}: a NUL byte at character {line.index(chr(0)) + 1}; a text "
                "in UTF-8 is expected (this is damaged, an image of another suffix, or UTF-16 "
                "without byte order mark)"
            )
    return lines


def split_line(line: str, separator: str | None) -> list[str]:
    """The names in a line: between tabs or commas where it has one, else spaces."""
    if separator is None:
        separator = next((mark for mark in "\t," if mark in line), None)
    fields = re.split("[ \t]+", line) if separator is None else line.split(separator)
    return [field for each in fields if (field := each.strip(" \t"))]


def encoding_problem(line: str) -> str:
    """The first byte of a line that is not UTF-8, for a message; empty where all are."""
    found = _NOT_UTF8.search(line)
    if found is None:
        return ""
    place = len(line[: found.start()].encode("utf-8", "surrogateescape")) + 1
    return f"not UTF-8 at byte {place} (0x{ord(found[0]) - 0xDC00:02x})"


def windows_hint(names: Sequence[str]) -> str:
    """A remedy for names as Windows writes them; empty where there are none."""
    foreign = [name for name in names if "\\" in name or _DRIVE.match(name)]
    if not foreign:
        return ""
    return (
        f"{len(foreign)} names are paths of Windows, such as {foreign[0]}: write them relative, "
        "with '/' in place of the backslash"
    )


def joined_line(names: Sequence[str], where: str) -> str:
    """The line of a list that holds these names.

    Raises:
        UsageError: a name that a list cannot hold.
    """
    for name in names:
        if name != name.strip(" ") or any(mark in name for mark in _UNWRITABLE):
            raise UsageError(
                f"{where}: the name {name!r} holds a tab or line break, or begins or ends with a "
                "space: a list cannot hold it; rename the file"
            )
    spaced = any(mark.isspace() or mark == "," for name in names for mark in name)
    return ("\t" if spaced else " ").join(names) + ("\t" if spaced else "") + "\n"
