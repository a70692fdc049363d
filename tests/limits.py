"""Runs a few lines of Python under limits of memory and time: hostile files are tried there."""

import resource
import subprocess
import sys

LAST_LINE = """
import resource, sys
from paddleseg_ext.common.errors import UsageError
try:
    {body}
except UsageError as error:
    print("UsageError:", error)
"""


def under_limits(lines: str, stdin: bytes = b"", seconds: int = 10, mebibytes: int = 500) -> str:
    """The message of the `UsageError` that the lines end in; empty where they end in none.

    Args:
        lines: statements; `sys` is imported.
        stdin: given to them.
        seconds: of the processor's time, after which they are killed.
        mebibytes: of memory beyond Python's and NumPy's own, above which the test fails.

    Raises:
        AssertionError: they were killed, ended in another exception or took more memory.
    """
    body = "\n    ".join(lines.splitlines())
    program = (
        "import numpy, resource, sys\n"
        "own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        + LAST_LINE.format(body=body)
        + "print('MiB', (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own) // 1024)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    done = subprocess.run(
        [sys.executable, "-c", program], input=stdin, capture_output=True, preexec_fn=limit
    )
    out = done.stdout.decode()
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.decode()[-500:]}"
    message, _, taken = out.rpartition("MiB ")
    assert int(taken) <= mebibytes, f"{taken.strip()} MiB were taken"
    return message.removeprefix("UsageError: ").strip()
