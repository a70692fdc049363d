"""The answer of a page, and names in words."""

from typing import Any

import pytest

from paddleseg_ext.inference.runtime import known_runtimes
from paddleseg_ext.parity.producers import PRODUCERS
from paddleseg_ext.parity.stages import EAGER
from paddleseg_ext.parity.words import answer_in_words, run_in_words, stage_in_words


def results(*grades: str | None, **changes: Any) -> dict[str, Any]:
    runs = [
        {"name": f"openvino threads {i} batch 1", "grade": grade, "summary": "why"}
        | ({"different_pixels": i} if grade == "near-tie" else {})
        for i, grade in enumerate(grades, 1)
    ]
    judged = [grade for grade in grades if grade]
    order = ["not compared", "identical", "near-tie", "within-budget", "failed"]
    grade = max(judged, key=order.index, default="not compared")
    found = {"runs": runs, "grade": grade, "faults": [], "negative_controls": [], "num_images": 4}
    return found | changes


def test_a_near_tie_is_the_pass_it_is() -> None:
    answer, why = answer_in_words(results("identical", "near-tie", "identical"))
    assert answer == "PASSED: may be shipped"
    assert why == (
        "3 runs over 4 images: 2 identical, 1 equal but for at most 2 pixels at which the network "
        "itself was undecided"
    )


def test_a_failure_names_the_runs_and_a_fault_of_the_bundle() -> None:
    answer, why = answer_in_words(results("identical", "failed", faults=["stale checkpoint: x"]))
    assert answer == "FAILED: do not ship"
    assert why == "stale checkpoint: x; 1 of 2 runs disagree: OpenVINO, 2 threads, batch 1"


def test_controls_are_part_of_the_answer() -> None:
    caught = {"title": "Normalize dropped", "caught": True}
    missed = {"title": "one weight changed", "caught": False}
    shows_nothing = {"title": "the pass", "caught": None}
    passed = results("identical", negative_controls=[caught, shows_nothing])
    assert answer_in_words(passed)[1].endswith("; 1 of 1 planted faults were noticed")
    failed = results("identical", negative_controls=[caught, missed], grade="failed")
    answer, why = answer_in_words(failed)
    assert answer == "FAILED: do not ship"
    assert why.startswith("a planted fault went unnoticed (one weight changed)")


def test_nothing_compared_is_no_pass() -> None:
    answer, why = answer_in_words(results(None))
    assert answer == "NOT COMPARED: nothing is known"
    assert why == "OpenVINO, 1 thread, batch 1: why"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("paddle_onednn threads 2 batch 1", "Paddle Inference with oneDNN, 2 threads, batch 1"),
        ("openvino_int8 threads 1 batch 2", "OpenVINO INT8, 1 thread, batch 2"),
        ("paddle_trt_fp16 batch 1", "Paddle Inference by TensorRT float16, batch 1"),
        ("static", "static graph"),
        ("evaluation while training", "evaluation while training"),
        ("val_mine", "val_mine"),
    ],
)
def test_runs_in_words(name: str, words: str) -> None:
    assert run_in_words(name) == words


def test_every_stage_has_words() -> None:
    for name in (*known_runtimes(), *PRODUCERS, EAGER):
        assert "_" not in stage_in_words(name)
