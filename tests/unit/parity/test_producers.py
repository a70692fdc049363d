"""Programs that are compared as stages: which there are, where they are, what is refused."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.parity import producers
from paddleseg_ext.parity.parity_run import ParityOptions


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "segment"
    path.write_text("#!/bin/sh\n")
    monkeypatch.setenv(producers.PROGRAM_VARIABLE, str(path))
    return path


def test_the_program_is_found_by_the_environment(program: Path) -> None:
    assert producers.find_program() == program


def test_a_program_that_is_not_built_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(producers.PROGRAM_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="make cpp"):
        producers.find_program()
    (tmp_path / "a.png").touch()
    options = ParityOptions(str(tmp_path), stages=["openvino", "cpp"])
    with pytest.raises(UsageError, match="make cpp"):
        options.check(has_config=True)


def test_a_producer_has_every_thread_count_and_batch_size() -> None:
    names = [run.name for run in producers.producer_runs(["cpp", "cpp_int8"], [1, 2], [4])]
    assert names == [
        "cpp threads 1 batch 4",
        "cpp threads 2 batch 4",
        "cpp_int8 threads 1 batch 4",
        "cpp_int8 threads 2 batch 4",
    ]


def test_stages_are_runtimes_and_producers(program: Path, tmp_path: Path) -> None:
    options = ParityOptions(str(tmp_path), stages=["openvino,cpp", "cpp_int8"])
    assert [stage.name for stage in options.runtimes()] == ["openvino"]
    assert options.producers() == ["cpp", "cpp_int8"]
    assert ParityOptions(str(tmp_path), stages=["cpp"]).runtimes() == []
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match="the first stage is the reference"):
        ParityOptions(str(tmp_path), stages=["cpp", "cpp_int8"]).check(has_config=True)


def test_the_browsers_scripts_run_one_image_at_a_time(tmp_path: Path) -> None:
    runs = producers.producer_runs(["cpp", "web"], [1, 2], [1, 4])
    assert [run.name for run in runs if run.stage == "web"] == [
        "web threads 1 batch 1",
        "web threads 2 batch 1",
    ]
    assert len(runs) == 6
