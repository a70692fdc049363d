"""JSON files as data: whole, plain values, whose cost is bounded.

Python's reader takes the last of two equal keys, reads `NaN`, `Infinity` and `1e999`, and makes
texts with half a letter. Here each is an error of one line, as in `yml`. U+DC80 to U+DCFF are read:
they are the bytes of a file's name that is not UTF-8 (`files.write_text`).
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import cut

MOST_BYTES = 64 << 20  # of one record; its values take at most some 25 times as much memory
MOST_LISTED_BYTES = 512 << 20  # of a file with an entry per image
DEEPEST = 50
_HALF_LETTER = re.compile(rb"\\u[dD][89a-fA-F]")  # alone, or in a pair that is a whole letter


def read_json(path: str | Path, most_bytes: int = MOST_BYTES) -> Any:
    """The content of a JSON file in UTF-8.

    Args:
        path: the file.
        most_bytes: that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or see `parse_json`.
    """
    path = Path(path)
    if not path.is_file() and path.exists():
        raise ValueError("no regular file")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """The values of a JSON text in UTF-8.

    Raises:
        ValueError: it is no JSON, has a key twice, a number that is not finite or half a letter, or
            is nested deeper than `DEEPEST` levels.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_repetition,
            parse_float=_finite,
            parse_constant=_finite,
        )
        if _HALF_LETTER.search(content):
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    except UnicodeEncodeError as error:
        letter = ascii(error.object[error.start])[1:-1]
        raise ValueError(f"the letter {letter}, which no text holds") from None
    _check_depth(value)
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    section = dict(pairs)
    if len(section) < len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key in section if times[key] > 1)
        raise ValueError(f"the key '{cut(ascii(twice)[1:-1])}' appears twice")
    return section


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {cut(text)}, which is not finite")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")
