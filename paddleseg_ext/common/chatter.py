"""Lines that Paddle prints and that no user can act on, kept off the terminal.

`--verbose`, which every verb has, shows them.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

WARNINGS = (
    "No ccache found",
    "When training, we now always track global mean and variance",
)
PRINTED = (
    "WARNING: OMP_NUM_THREADS set to",
    "PLEASE USE OMP_NUM_THREADS WISELY",
)
# Paddle's C++ part reads its least level once, when it is imported: 2 leaves errors.
NATIVE_LEVEL = ("GLOG_minloglevel", "2")


class QuietText(io.TextIOWrapper):
    """Standard error without the lines that begin as one of `PRINTED`."""

    is_quiet = True

    def write(self, text: str) -> int:
        """The number of characters taken; `print` hands over a line and its end one by one."""
        if self._dropping and text == "\n":
            self._dropping = False
            return 1
        self._dropping = self.is_quiet and text.startswith(PRINTED)
        if not self._dropping:
            return super().write(text)
        self._dropping = not text.endswith("\n")
        return len(text)

    _dropping = False


def silence() -> None:
    """Hide `WARNINGS` and those of Paddle's C++ part; `QuietText` hides the printed lines."""
    os.environ.setdefault(*NATIVE_LEVEL)
    for start in WARNINGS:
        warnings.filterwarnings("ignore", message=start)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Hide the same lines while Paddle is imported for a caller from Python.

    Everything else that is written to standard error meanwhile comes out afterwards.
    """
    if not QuietText.is_quiet:
        yield
        return
    caught = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stderr(caught):
            for start in WARNINGS:
                warnings.filterwarnings("ignore", message=start)
            yield
    finally:
        for line in caught.getvalue().splitlines():
            if not line.startswith(PRINTED):
                print(line, file=sys.stderr)


class Verbose(argparse.Action):
    """The flag `--verbose`, with `nargs=0`: from where it is read on, everything is shown."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any
    ) -> None:
        """Note it, and show what was hidden."""
        setattr(namespace, self.dest, True)
        QuietText.is_quiet = False
        if os.environ.get(NATIVE_LEVEL[0]) == NATIVE_LEVEL[1]:
            del os.environ[NATIVE_LEVEL[0]]
        for start in WARNINGS:
            warnings.filterwarnings("default", message=start)
