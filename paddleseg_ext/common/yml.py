"""Yml as data: nothing in it is ever executed, and an error is one line."""

from pathlib import Path
from typing import Any

import yaml

from paddleseg_ext.common.errors import UsageError


def parse_yaml(text: str, source: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The content of a yml text.

    Args:
        text: the yml.
        source: where it comes from; opens the message.
        loader: a stricter one than YAML's own.

    Raises:
        UsageError: with the line at fault.
    """
    try:
        return yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{source}{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{source}: not a yml file: {' '.join(str(error).split())}") from None


def read_sections(
    path: Path, expected: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader
) -> dict[str, Any]:
    """A yml file whose top level is a mapping.

    Args:
        path: the file.
        expected: names the expected content in the message.
        loader: as for `parse_yaml`.

    Raises:
        UsageError: it cannot be read, is no yml, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    raw = parse_yaml(text, str(path), loader)
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: {expected} is expected")
    return raw
