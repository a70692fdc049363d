"""The workflow for GitHub runs make's targets, and the matrix notices what differs."""

import re
import tomllib

import pytest
import yaml
from commands import PROJECT
from matrix import LEGS, interpreter, missing, sound
from packaging.specifiers import SpecifierSet

WORKFLOW = PROJECT / ".github" / "workflows" / "checks.yml"
JOBS = yaml.safe_load(WORKFLOW.read_text())["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]
ROW = {"leg": "3.11", "pip check": "passed", "tour": "passed", "unit tests": "passed"}
ROW |= {"images": "a", "checkpoint": "b", "label maps": "c"}


def test_the_workflow_runs_targets_of_the_makefile() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = [
        command[5:] for step in STEPS if (command := step.get("run", "")).startswith("make ")
    ]
    assert targets == ["lint", "test", "matrix"] == list(JOBS)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_workflow_may_read_only_and_its_actions_are_pinned() -> None:
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in JOBS.values())
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert len(used) == sum("uses" in step for step in STEPS) >= 6
    for line in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line
    for step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


def test_the_workflow_has_every_python_that_is_allowed() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    minors = [f"3.{minor}" for minor in range(6, 30)]
    allowed = [minor for minor in minors if minor in SpecifierSet(project["requires-python"])]
    (setup,) = (
        step for step in JOBS["matrix"]["steps"] if "python-version" in step.get("with", {})
    )
    assert setup["with"]["python-version"].split() == allowed
    assert {leg.partition("-")[0] for leg in LEGS} == set(allowed)
    assert JOBS["test"]["strategy"]["matrix"]["python"] == [allowed[0], allowed[-1]]


@pytest.mark.parametrize("key", ["images", "checkpoint", "label maps"])
def test_a_leg_with_other_results_fails_the_matrix(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ROW | {"leg": "3.12", key: "other"}
    assert sound([ROW, ROW | {"leg": "3.12"}])
    assert not sound([ROW, other])
    assert f"legs differ in: {key}" in capsys.readouterr().err


def test_a_leg_that_fails_or_nothing_that_ran_fails_the_matrix() -> None:
    skipped = ROW | {"tour": "skipped: not found here", "images": "-"}
    assert sound([ROW, skipped])
    assert not sound([skipped])
    assert not sound([ROW | {"unit tests": "failed"}])
    assert not sound([ROW | {"tour": "no environment: log.txt", "images": "-"}])
    assert interpreter("3.99") is None


def test_pip_may_miss_opencv_under_its_other_name_alone() -> None:
    opencv = "paddleseg 2.8.0 requires opencv-python, which is not installed."
    assert not missing("No broken requirements found.")
    assert not missing(opencv)
    scipy = "paddleseg 2.8.0 requires scipy, which is not installed."
    assert missing(f"{opencv}\n{scipy}") == [scipy]
