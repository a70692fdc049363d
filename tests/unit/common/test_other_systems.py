"""Without the calls that only Linux has, as on macOS and Windows."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios"}
MACOS_LACKS = {"machine.py sched_getaffinity", "machine.py sched_setaffinity"}
# Each of them stands behind a guard; the tests below take it away.
WINDOWS_LACKS = MACOS_LACKS | {
    "files.py LOCK_EX",
    "files.py LOCK_NB",
    "files.py lockf",
    "limits.py RLIM_INFINITY",
    "limits.py getrlimit",
    "machine.py RUSAGE_SELF",
    "machine.py getrusage",
    "processes.py SIG_BLOCK",
    "processes.py SIG_SETMASK",
}
WITHOUT = """
import multiprocessing.connection, os, signal, sys, types
import cv2, numpy, uvicorn.protocols.http.h11_impl  # the libraries may have what they find

sys.modules.update(fcntl=None, resource=None)  # an import of them raises
locked = []
def locking(handle, mode, size):
    if locked:
        raise PermissionError(13, "Permission denied")
    locked.append((handle, mode, size))
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
for module, name in ((os, "sched_getaffinity"), (os, "sched_setaffinity"),
                     (os, "getloadavg"), (signal, "pthread_sigmask"), (signal, "SIGKILL"),
                     (signal, "SIGBUS"), (signal, "SIGCHLD")):
    delattr(module, name)
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, str(folder)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cores_memory_and_connections(tmp_path: Path) -> None:
    run(
        """
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from paddleseg_ext.common import machine
assert machine.available_cores() >= 1
assert machine.cores_for(2) == []
with ThreadPoolExecutor(1, initializer=machine.use_every_core) as pool:
    assert pool.submit(int, 3).result() == 3
assert machine.peak_memory_mb() > 1
machine.STATUS_FILE = Path("/nothing")
assert machine.peak_memory_mb() == 0
assert machine.cpu_name()
from paddleseg_ext.common.limits import process_limit
assert process_limit("RLIMIT_FSIZE") is None
from paddleseg_ext.serving.connections import MOST_CONNECTIONS, most_connections
assert most_connections() == MOST_CONNECTIONS
""",
        tmp_path,
    )


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    run(
        """
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import sole_writer
with sole_writer(sys.argv[1], "--save_dir"):
    assert [entry[1:] for entry in locked] == [(2, 1)]
    try:
        with sole_writer(sys.argv[1], "--save_dir"):
            raise AssertionError
    except UsageError as error:
        assert "another process is writing" in str(error)
""",
        tmp_path,
    )


def test_a_process_of_the_benchmark_starts(tmp_path: Path) -> None:
    run(
        """
from paddleseg_ext.bench.worker import _start_deaf_to_ctrl_c
started = []
_start_deaf_to_ctrl_c(types.SimpleNamespace(start=lambda: started.append(1)))
assert started == [1]
""",
        tmp_path,
    )


def test_paddle_and_the_reading_processes_start(tmp_path: Path) -> None:
    run(
        """
disabled = []
sys.modules["paddle"] = types.SimpleNamespace(disable_signal_handler=lambda: disabled.append(1))
from paddleseg_ext.common.processes import import_paddle
import_paddle()
assert disabled == [1]
from paddleseg_ext.training.readers import _children_unheard, _describe_loss
with _children_unheard():
    pass
assert "has ended with status 3" in _describe_loss(3)
""",
        tmp_path,
    )


def test_memory_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """MacOS counts bytes, Linux kilobytes."""
    import resource
    from types import SimpleNamespace

    from paddleseg_ext.common import machine

    monkeypatch.setattr(machine, "STATUS_FILE", Path("/nothing"))
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=50 * 2**20))
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert machine.peak_memory_mb() == 50
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.peak_memory_mb() == 50 * 2**10


@pytest.mark.slow
@pytest.mark.parametrize(("system", "lacks"), [("win32", WINDOWS_LACKS), ("darwin", MACOS_LACKS)])
def test_calls_that_a_system_lacks_are_the_guarded_ones(
    system: str, lacks: set[str], tmp_path: Path
) -> None:
    """By the type checker's tables of Python's library: a new one here needs a guard and a test."""
    command = [sys.executable, "-m", "mypy", "--platform", system, "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    found = re.findall(r'^(\S+?):\d+: error: Module has no attribute "(\w+)"', done.stdout, re.M)
    assert {f"{Path(file).name} {name}" for file, name in found} == lacks, done.stdout


def test_no_module_needs_posix_to_be_imported() -> None:
    found = []
    for root in ("paddleseg_ext", "deploy"):
        for path in (PROJECT / root).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [f"{path.name}: {name}" for name in names if name in POSIX_ONLY]
    assert not found
