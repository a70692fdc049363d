"""A served bundle in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """A running `serve`."""

    process: subprocess.Popen
    url: str

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(bundle: Path, *flags: str) -> Iterator[Server]:
    """Serve until the block ends; any free port, one thread.

    SERVING_PYTHON names another environment's interpreter, such as requirements/serve.txt's.
    """
    python = os.environ.get("SERVING_PYTHON", sys.executable)
    command = [python, "-m", "paddleseg_ext", "serve", "--config", str(bundle)]
    process = subprocess.Popen(
        [*command, "--port", "0", *flags],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        yield Server(process, _wait_until_ready(process))
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen) -> str:
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if ready := re.search(r"ready on (http://\S+)", line):
            return ready[1]
    raise AssertionError("".join(said))
