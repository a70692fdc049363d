"""Running a plan: what fails must show in the log, in the XML and in the status."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.tipc.plan import ChainRun, Plan
from paddleseg_ext.tipc.run import STATUS_NOT_RUN, run_chain, run_plan

SOUND = {"name": "static", "grade": "identical", "summary": "identical", "seconds": 1.0}
WRONG = {"name": "onednn", "grade": "failed", "summary": "failed: 3 pixels", "seconds": 1.0}


def python(kind: str, name: str, code: str, **more) -> ChainRun:
    return ChainRun(kind, name, (sys.executable, "-c", code), **more)


def verdict_of(log_dir: Path, *runs: dict) -> ChainRun:
    """A stand-in for the parity verb: writes results.json, fails as it does."""
    text = json.dumps({"runs": runs})
    failed = any(run["grade"] == "failed" for run in runs)
    code = f"open({str(log_dir / 'results.json')!r}, 'w').write({text!r}); exit({int(failed)})"
    return ChainRun(
        "parity", "verdict", (sys.executable, "-c", code), verdict=log_dir / "results.json"
    )


@pytest.fixture
def log_dir(tmp_path):
    return tmp_path / "net" / "lite"


def cases_of(log_dir: Path) -> dict[str, str]:
    """Name -> passed, failure or skipped, of junit.xml."""
    root = ElementTree.parse(log_dir / "junit.xml").getroot()
    return {
        case.attrib["name"]: case[0].tag if len(case) else "passed"
        for case in root.iter("testcase")
    }


def test_all_passed(log_dir, capfd):
    train = python("train", "train", "print('loss 1')")
    run_plan(Plan("net", log_dir, (train, verdict_of(log_dir, SOUND))))
    lines = (log_dir / "results_python.log").read_text().splitlines()
    assert lines[0] == (
        f"Run successfully with command - net - {train.shown_command} - {log_dir / 'train.log'}"
    )
    assert len(lines) == 2
    assert "loss 1\n" in (log_dir / "train.log").read_text()
    assert cases_of(log_dir) == {"train": "passed", "verdict": "passed", "static": "passed"}
    assert "loss 1" in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["eval", "infer"])
def test_a_failed_command_fails_the_suite_and_the_rest_still_runs(log_dir, kind):
    broken = python(kind, "broken", "exit(3)")
    with pytest.raises(CheckFailed, match="1 of 3 checks"):
        run_plan(Plan("net", log_dir, (broken, verdict_of(log_dir, SOUND))))
    assert cases_of(log_dir) == {"broken": "failure", "verdict": "passed", "static": "passed"}
    first = (log_dir / "results_python.log").read_text().splitlines()[0]
    assert first.startswith("Run failed with command - net - ")


@pytest.mark.parametrize("kind", ["train", "export"])
def test_nothing_runs_on_what_was_never_made(log_dir, kind):
    broken = python(kind, "broken", "exit(1)")
    never = python("infer", "never", f"open({str(log_dir / 'ran')!r}, 'w')", needs=("broken",))
    with pytest.raises(CheckFailed):
        run_plan(Plan("net", log_dir, (broken, never)))
    assert cases_of(log_dir) == {"broken": "failure", "never": "skipped"}
    assert not (log_dir / "ran").exists()
    assert "Not run - net - " in (log_dir / "results_python.log").read_text()


def test_another_training_starts_afresh(log_dir):
    runs = (
        python("train", "one", "exit(1)"),
        python("train", "two", ""),
        python("infer", "x", "", needs=("two",)),
    )
    with pytest.raises(CheckFailed):
        run_plan(Plan("net", log_dir, runs))
    assert cases_of(log_dir) == {"one": "failure", "two": "passed", "x": "passed"}


def test_a_verdict_that_failed_fails_the_suite(log_dir):
    with pytest.raises(CheckFailed, match="2 of 3 checks"):
        run_plan(Plan("net", log_dir, (verdict_of(log_dir, SOUND, WRONG),)))
    assert cases_of(log_dir) == {"verdict": "failure", "static": "passed", "onednn": "failure"}


def test_what_cannot_run_here_is_neither_passed_nor_failed(log_dir):
    skipped = python("infer", "gpu", "exit(1)", reason="no GPU")
    assert run_plan(Plan("net", log_dir, (skipped,))) == STATUS_NOT_RUN
    assert cases_of(log_dir) == {"gpu": "skipped"}


def test_results_of_an_earlier_run_are_not_taken_for_this_ones(log_dir, tmp_path):
    old = tmp_path / "results"
    old.mkdir()
    (old / "inference.json").write_text("{}")
    log_dir.mkdir(parents=True)
    (log_dir / "results.json").write_text(json.dumps({"runs": [SOUND]}))
    silent = ChainRun(
        "parity", "verdict", (sys.executable, "-c", ""), verdict=log_dir / "results.json"
    )
    run_plan(Plan("net", log_dir, (python("infer", "x", "", results=old), silent)))
    assert not list(old.iterdir())
    assert cases_of(log_dir) == {"x": "passed", "verdict": "passed"}


def test_a_program_that_is_not_there_is_a_failure(log_dir):
    with pytest.raises(CheckFailed):
        run_plan(Plan("net", log_dir, (ChainRun("eval", "x", ("no-such-program",)),)))
    assert "exit status 127" in (log_dir / "junit.xml").read_text()


def told(folder: Path, fullest: int, **description) -> str:
    """Code that leaves an inference.json whose backend says this of itself."""
    text = json.dumps(
        {
            "backend": {"device": "cpu", "name": "onnxruntime"} | description,
            "fullest_batch": fullest,
        }
    )
    return f"open({str(folder / 'inference.json')!r}, 'w').write({text!r})"


@pytest.mark.parametrize(
    ("change", "fullest", "failure"),
    [
        ({}, 4, None),
        ({"kernels": {}}, 4, "the engine lists no kernel that ran"),
        ({"cpu_threads": 1}, 4, "2 threads were asked"),
        ({"precision": "int8"}, 4, "fp32 was asked for"),
        ({"name": "openvino"}, 4, "onnxruntime was asked for, and openvino runs"),
        ({"name": None}, 4, "inference.json: backend: a section with the engine's 'name'"),
        ({}, 3, "batches of 4 were asked for, and the fullest held 3"),
    ],
)
def test_a_run_that_fell_back_fails(log_dir, tmp_path, change, fullest, failure):
    results = tmp_path / "results"
    description = {"precision": "fp32", "kernels": {"Conv": 3}, "cpu_threads": 2} | change
    run = python("infer", "x", told(results, fullest, **description), results=results)
    run = replace(run, runtime=RuntimeSpec("onnxruntime", threads=2), batch_size=4)
    tally = run_chain(Plan("net", log_dir, (run,)))
    assert [case.suite for case in tally.cases] == ["commands", "activity"]
    assert tally.state == ("failed" if failure else "passed")
    assert (failure or "") in tally.cases[1].failure


def test_words_reach_the_process_and_the_log_as_they_are_written(log_dir, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    words = ("$HOME *", "it's", "a=b c", "")
    code = "import json, sys; print(json.dumps([sys.executable, *sys.argv[1:]]))"
    run = ChainRun("eval", "x", ("env", "A=1", "python", "-c", code, *words))
    run_plan(Plan("net", log_dir, [run]))
    shown, printed = (log_dir / "x.log").read_text().splitlines()
    assert tuple(shlex.split(shown.removeprefix("$ "))) == run.command
    assert f" - {run.shown_command} - " in (log_dir / "results_python.log").read_text()
    executable, *got = json.loads(printed)
    assert tuple(got) == words
    # `python` is the interpreter that runs the chain, whatever PATH says.
    assert Path(executable).parent == Path(sys.executable).parent


def test_what_needs_a_run_that_is_not_possible_is_not_run_either(log_dir):
    train = python("train", "train", "exit(1)", reason="no GPU")
    verdict = replace(verdict_of(log_dir, SOUND), needs=("train",))
    assert run_plan(Plan("net", log_dir, (train, verdict))) == STATUS_NOT_RUN
    assert cases_of(log_dir) == {"train": "skipped", "verdict": "skipped"}


def test_a_verdict_of_an_earlier_run_is_not_taken_for_this_ones(log_dir):
    folder = log_dir / "sub"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"runs": [SOUND]}))
    silent = ChainRun(
        "parity", "verdict", (sys.executable, "-c", ""), verdict=folder / "results.json"
    )
    run_plan(Plan("net", log_dir, (silent,)))
    assert cases_of(log_dir) == {"verdict": "passed"}
