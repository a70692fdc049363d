"""Reads and hides the standard output of C and C++ libraries, which goes past Python."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_LOCK = Lock()  # the file descriptor is the process's


@contextmanager
def without_lines(starts: tuple[str, ...]) -> Iterator[list[str]]:
    """Keep lines that begin so off the standard output, for the length of a block.

    What others print meanwhile, threads among them, comes out afterwards.

    Args:
        starts: how lines begin that are kept off.

    Yields:
        A list; it holds these lines when the block has ended.
    """
    kept_off: list[str] = []
    c_library = ctypes.CDLL(None)
    with _LOCK, tempfile.TemporaryFile() as caught:
        sys.stdout.flush()
        c_library.fflush(None)
        output = os.dup(1)
        os.dup2(caught.fileno(), 1)
        try:
            yield kept_off
        finally:
            sys.stdout.flush()
            c_library.fflush(None)
            os.dup2(output, 1)
            os.close(output)
            caught.seek(0)
            lines = caught.read().decode("utf-8", "replace").splitlines()
            kept_off += [line for line in lines if line.startswith(starts)]
            if others := [line for line in lines if not line.startswith(starts)]:
                print(*others, sep="\n", flush=True)
