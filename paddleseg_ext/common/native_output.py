"""Reads and hides what C and C++ libraries print, which goes past Python."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

STREAMS = {"stdout": 1, "stderr": 2}  # file descriptors
_LOCK = Lock()  # they are the process's


@contextmanager
def without_lines(starts: tuple[str, ...], stream: str = "stdout") -> Iterator[list[str]]:
    """Keep lines that begin so off the standard output or error, for the length of a block.

    What others print meanwhile, threads among them, comes out afterwards.

    Args:
        starts: how lines begin that are kept off; "" is how every line does.
        stream: `stdout` or `stderr`.

    Yields:
        A list; it holds these lines when the block has ended.
    """
    kept_off: list[str] = []
    c_library = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
    number, python_stream = STREAMS[stream], getattr(sys, stream)
    with _LOCK, tempfile.TemporaryFile() as caught:
        python_stream.flush()
        c_library.fflush(None)
        output = os.dup(number)
        os.dup2(caught.fileno(), number)
        try:
            yield kept_off
        finally:
            python_stream.flush()
            c_library.fflush(None)
            os.dup2(output, number)
            os.close(output)
            caught.seek(0)
            lines = caught.read().decode("utf-8", "replace").splitlines()
            kept_off += [line for line in lines if line.startswith(starts)]
            if others := [line for line in lines if not line.startswith(starts)]:
                print(*others, sep="\n", file=python_stream, flush=True)
