"""Lines that Paddle prints when it is imported and that no user can act on, kept off the terminal.

`--verbose`, which every verb has, shows them.
"""

import argparse
import io
import warnings
from typing import Any

WARNINGS = (
    "No ccache found",
    "When training, we now always track global mean and variance",
)
PRINTED = (
    "WARNING: OMP_NUM_THREADS set to",
    "PLEASE USE OMP_NUM_THREADS WISELY",
)


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
    """Hide `WARNINGS`; `QuietText` hides the printed lines."""
    for start in WARNINGS:
        warnings.filterwarnings("ignore", message=start)


class Verbose(argparse.Action):
    """The flag `--verbose`, with `nargs=0`: from where it is read on, everything is shown."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any
    ) -> None:
        """Note it, and show what was hidden."""
        setattr(namespace, self.dest, True)
        QuietText.is_quiet = False
        for start in WARNINGS:
            warnings.filterwarnings("default", message=start)
