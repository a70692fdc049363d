"""Texts of files that people and other programs are shown: names of classes, networks and files."""

import unicodedata
from collections.abc import Iterable
from typing import Any

from paddleseg_ext.common.errors import UsageError, shown

# Control characters, halves of letters (UTF-16 surrogates), line and paragraph separators.
# Terminals obey the first, JSON and UTF-8 have no form for the second, lists end at the third.
LONGEST_FILE_NAME = 255  # bytes, on every usual file system
_UNFIT = ("Cc", "Cs", "Zl", "Zp")


def bad_letter(text: str, among: str = "") -> str:
    """The first letter, escaped, that no shown text may hold; empty where there is none.

    Args:
        text: of a file.
        among: such letters that are allowed here, as line ends in a longer text.
    """
    if text.isascii() and text.isprintable():
        return ""
    bad = (c for c in text if unicodedata.category(c) in _UNFIT and c not in among)
    return next((ascii(c)[1:-1] for c in bad), "")


def not_utf8(error: UnicodeDecodeError) -> str:
    """The end of a message about a text in another encoding: the byte, and the remedy."""
    kind = "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
    place = f"byte {error.start + 1}, 0x{error.object[error.start]:02x}"
    return f"a text in UTF-8 is expected, this is {kind} ({place}); save it as UTF-8"


def check_name(where: str, name: Any) -> None:
    """Refuse what is no name that can be shown everywhere: in JSON, HTML, a terminal, a list.

    Args:
        where: the name's place, which the message begins with.
        name: a value of a file.

    Raises:
        UsageError: no text, or one with a control character, a line end or half a letter.
    """
    if not isinstance(name, str):
        raise UsageError(f"{where}: a text is expected, got {shown(name)}")
    if letter := bad_letter(name):
        raise UsageError(f"{where}: {shown(name)} holds the letter {letter}, which no name holds")


def check_names(where: str, names: Iterable[Any]) -> None:
    """`check_name` for each."""
    for name in names:
        check_name(where, name)


def check_file_name(where: str, name: Any) -> str:
    """The name of a file in the same folder: no path, nothing above or beside the folder.

    Args:
        where: the name's place, which the message begins with.
        name: a value of a file.

    Raises:
        UsageError: no plain file name.
    """
    check_name(where, name)
    is_place = name in ("", ".", "..") or "/" in name or "\\" in name
    if is_place or len(name.encode()) > LONGEST_FILE_NAME:
        raise UsageError(
            f"{where}: the plain name of a file in the same folder is expected, got {shown(name)}"
        )
    return name
