"""What a command takes of the machine."""

from pathlib import Path

import pytest

from paddleseg_ext.common import machine
from paddleseg_ext.common.errors import UsageError


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 8),
        ({"PADDLE_LOCAL_SIZE": "3"}, 2),
        ({"PADDLE_LOCAL_SIZE": "16"}, 1),
        ({"PADDLE_LOCAL_SIZE": "4", "OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "2,1"}, 2),
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


@pytest.mark.parametrize("value", ["two", "0", "-1", ",2"])
def test_a_thread_count_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(UsageError, match=f"OMP_NUM_THREADS={value}: a whole number"):
        machine.fix_thread_count()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"jobs/one/cpu.max": "max 100000", "jobs/cpu.max": "300000 100000"}, 3.0),
        ({"jobs/one/cpu.max": "200000 100000", "jobs/cpu.max": "300000 100000"}, 2.0),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_quota_of_control_group_2(tmp_path: Path, files: dict, expected: float | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    groups = tmp_path / "own"
    groups.write_text("0::/jobs/one\n")
    assert machine.cpu_quota(tmp_path, groups) == expected


def test_quota_of_control_group_1(tmp_path: Path) -> None:
    folder = tmp_path / "cpu,cpuacct"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    groups = tmp_path / "own"
    groups.write_text("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    assert machine.cpu_quota(tmp_path, groups) == 2.5
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert machine.cpu_quota(tmp_path, groups) is None
    assert machine.cpu_quota(tmp_path, tmp_path / "nothing") is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (2.9, 2), (0.5, 1), (64.0, 8)])
def test_cores_are_those_of_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(machine, "STARTING_CORES", frozenset(range(8)))
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.available_cores() == expected
