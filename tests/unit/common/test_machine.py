"""What a command takes of the machine."""

import pytest

from paddleseg_ext.common import machine


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 8),
        ({"PADDLE_LOCAL_SIZE": "3"}, 2),
        ({"PADDLE_LOCAL_SIZE": "16"}, 1),
        ({"PADDLE_LOCAL_SIZE": "4", "OMP_NUM_THREADS": "5"}, 5),
    ],
)
def test_processes_of_one_machine_share_its_cores(
    environment: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 8)
    for name in ("PADDLE_LOCAL_SIZE", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that what the function sets is undone
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert machine.fix_thread_count() == threads
