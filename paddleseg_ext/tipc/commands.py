"""What the commands that a txt names offer, asked of themselves by `--help`."""

import re
import subprocess
import sys
from functools import cache

from paddleseg_ext.common.errors import STATUS_DONE
from paddleseg_ext.tipc.format import split_command

_FLAG = re.compile(r"(?<![\w-])(--\w+)(?: \{([^}]*)\})?")


@cache
def help_of(*words: str) -> str | None:
    """What `python WORDS --help` prints; None where it fails."""
    done = subprocess.run(
        [sys.executable, *words, "--help"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout if done.returncode == STATUS_DONE else None


def program_of(command: str) -> tuple[str, ...]:
    """What of a command line is the program: `train.py`, or `-m paddleseg_ext VERB [ACTION]`."""
    words = split_command(command)
    if words[:1] != ["-m"]:
        return tuple(words[:1])
    length = next((n for n, word in enumerate(words) if n > 1 and word.startswith("-")), len(words))
    return tuple(words[:length])


def flags_of(*program: str) -> dict[str, tuple[str, ...]] | None:
    """Flag -> its choices (empty: any value) of a program; None where there is no such program."""
    text = help_of(*program)
    if text is None:
        return None
    flags: dict[str, tuple[str, ...]] = {}
    for name, choices in _FLAG.findall(text):
        flags[name] = flags.get(name) or tuple(filter(None, choices.split(",")))
    return flags
