"""Learning-rate schedules: values, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.schedules import build_schedule

POLY = {"type": "PolynomialDecay", "learning_rate": 0.01}


def test_poly_starts_at_the_rate_and_ends_at_end_lr() -> None:
    schedule = build_schedule({**POLY, "end_lr": 0.001, "power": 0.9}, iters=100)
    assert schedule(0) == pytest.approx(0.01)
    assert schedule(100) == pytest.approx(0.001)
    assert schedule(50) == pytest.approx(0.009 * 0.5**0.9 + 0.001)
    assert schedule(1000) == pytest.approx(0.001)


def test_linear_warmup_then_the_whole_decay() -> None:
    section = {**POLY, "warmup_iters": 10, "warmup_start_lr": 0.001}
    schedule = build_schedule(section, iters=110)
    assert schedule(0) == pytest.approx(0.001)
    assert schedule(5) == pytest.approx(0.0055)
    assert schedule(10) == pytest.approx(0.01)
    assert schedule(60) == pytest.approx(0.01 * 0.5**0.9)


def test_cosine_and_step() -> None:
    cosine = build_schedule({"type": "CosineAnnealingDecay", "learning_rate": 1.0}, iters=10)
    assert [cosine(0), cosine(5), cosine(10)] == pytest.approx([1.0, 0.5, 0.0])
    step = build_schedule({"type": "StepDecay", "learning_rate": 1.0, "step_size": 4}, iters=10)
    assert [step(3), step(4), step(8)] == pytest.approx([1.0, 0.1, 0.01])


@pytest.mark.parametrize(
    ("section", "theirs"),
    [
        ({"learning_rate": 1.0, "milestones": [3, 6], "gamma": 0.5}, "MultiStepDecay"),
        ({"boundaries": [3, 6], "values": [1.0, 0.5, 0.2]}, "PiecewiseDecay"),
        (
            {
                "learning_rate": 1.0,
                "milestones": [3, 6],
                "warmup_iters": 2,
                "warmup_start_lr": 0.1,
            },
            "MultiStepDecay",
        ),
    ],
)
def test_steps_are_paddles(section: dict, theirs: str) -> None:
    import paddle

    schedule = build_schedule({"type": theirs, **section}, iters=10)
    plain = {key: value for key, value in section.items() if "warmup" not in key}
    expected = getattr(paddle.optimizer.lr, theirs)(**plain)
    if "warmup_iters" in section:
        expected = paddle.optimizer.lr.LinearWarmup(expected, 2, 0.1, 1.0)
    for iteration in range(10):
        assert schedule(iteration) == pytest.approx(expected())
        expected.step()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"type": "MultiStepDecay", "learning_rate": 0.1, "milestones": [3, 2]},
            "'milestones' must rise",
        ),
        ({"type": "PiecewiseDecay", "boundaries": [3], "values": [1.0]}, "2 'values' are expected"),
        ({"type": "PolynomalDecay", "learning_rate": 0.1}, "did you mean 'PolynomialDecay'"),
        ({**POLY, "powr": 0.9}, "did you mean 'power'"),
        ({"type": "PolynomialDecay"}, "'learning_rate' is missing"),
        ({**POLY, "learning_rate": -1.0}, "must be a number above 0"),
        ({**POLY, "learning_rate": "fast"}, "must be a number"),
        ({**POLY, "warmup_iters": 10}, "'warmup_start_lr' is missing"),
        ({**POLY, "warmup_start_lr": 0.1}, "without 'warmup_iters' does nothing"),
        (
            {**POLY, "warmup_iters": 5, "warmup_start_lr": 0, "warmup": "exp"},
            "needs a 'warmup_start_lr' above 0",
        ),
        ({**POLY, "end_lr": -0.1}, "'end_lr' must be a number of at least 0"),
        ({**POLY, "end_lr": float("nan")}, "'end_lr' must be a number of at least 0"),
        (
            {**POLY, "warmup_iters": 2, "warmup_start_lr": float("inf")},
            "'warmup_start_lr' must be a number of at least 0",
        ),
        (
            {**POLY, "warmup_iters": 2, "warmup_start_lr": True},
            "'warmup_start_lr' must be a number of at least 0",
        ),
        ({**POLY, "type": ["StepDecay"]}, "unknown type"),
    ],
)
def test_wrong_sections_are_one_clear_line(section: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_schedule(section, iters=100)


def as_section(meta: dict) -> tuple[dict, int]:
    """`lr_scheduler:` and the number of iterations for an original's arguments."""
    section = {**POLY, "learning_rate": meta["base_lr"], "power": meta["power"]}
    section["end_lr"] = meta.get("min_lr", 0.0)
    warmup_iters = meta.get("warmup_iter") or meta.get("warmup_iters")
    if warmup_iters:
        start = meta.get("warmup_start_lr") or meta["warmup_ratio"] * meta["base_lr"]
        form = "scaled" if "by_epoch" in meta else meta.get("warmup", "exp")
        section |= {"warmup_iters": warmup_iters, "warmup_start_lr": start, "warmup": form}
    return section, meta.get("max_iter") or meta.get("max_iters") or meta["total_iters"]


@pytest.mark.parity
@pytest.mark.parametrize(
    "name",
    ["cc_v1_exp", "cc_v2_exp", "cc_v1_linear", "stdc", "torchseg_r18", "dab_r18", "dab_e"],
)
def test_schedules_are_the_originals(shared_dir: Path, name: str) -> None:
    directory = shared_dir / "golden" / "schedules"
    meta = json.loads((directory / "meta.json").read_text())
    sub = next(s for s in meta["schedules"] if s["name"] == name)
    section, iters = as_section(sub)
    schedule = build_schedule(section, iters)
    with np.load(directory / "expected.npz") as expected:
        got = [schedule(int(i)) for i in expected[f"{name}.iter"]]
        np.testing.assert_allclose(got, expected[f"{name}.lr"], rtol=1e-12)
