"""The names of files and flags in words, for the page of a comparison."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paddleseg_ext.scoring.verdict import (
    FAILED,
    IDENTICAL,
    NEAR_TIE_GRADE,
    NOT_COMPARED,
    WITHIN_BUDGET,
)

Runs = Sequence[Mapping[str, Any]]
GRADES = {
    IDENTICAL: "passed: identical",
    NEAR_TIE_GRADE: "passed: near-tie",
    WITHIN_BUDGET: "passed: within budget",
    FAILED: "FAILED",
    NOT_COMPARED: "not compared",
}
BUDGETS = {
    "different_pixels": "share of pixels that change class",
    "mean_iou": "change of the mean IoU",
    "class_iou": "change of a class's IoU",
    "least_class_pixels": "labelled pixels of a judged class, at least",
}
SOURCES = {
    "config": "configuration",
    "model_path": "checkpoint",
    "image_list": "images",
    "bundle": "bundle",
}
ENGINES = {
    "eager": "the network itself",
    "static": "static graph",
    "paddle": "Paddle Inference",
    "paddle_onednn": "Paddle Inference with oneDNN",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "mnn": "MNN",
    "ncnn": "ncnn",
    "cpp": "C++ program",
    "web": "browser",
}
SUFFIXES = {
    "int8": "INT8",
    "bf16": "bfloat16",
    "fp16": "float16",
    "gpu": "on a GPU",
    "trt": "by TensorRT",
    "cuda": "on a GPU",
}


def stage_in_words(name: str) -> str:
    """`Paddle Inference with oneDNN` of `paddle_onednn`; another name as it is."""
    engine, suffixes = name, list[str]()
    while engine not in ENGINES and "_" in engine:
        engine, _, last = engine.rpartition("_")
        if last not in SUFFIXES:
            return name
        suffixes.insert(0, SUFFIXES[last])
    if engine not in ENGINES:
        return name
    return " ".join([ENGINES[engine], *suffixes])


def run_in_words(name: str) -> str:
    """`OpenVINO, 2 threads, batch 1` of `openvino threads 2 batch 1`."""
    stage, *settings = name.split(" threads ")
    if not settings:
        stage, separator, size = name.partition(" batch ")
        return f"{stage_in_words(stage)}, batch {size}" if separator else stage_in_words(name)
    threads, _, size = settings[0].partition(" batch ")
    return f"{stage_in_words(stage)}, {_counted(int(threads), 'thread')}, batch {size}"


def answer_in_words(results: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the network may be shipped, and why.

    Args:
        results: of `report.results`.
    """
    runs = results["runs"]
    judged = [run for run in runs if run["grade"] is not None]
    if results["grade"] == NOT_COMPARED:
        reasons = [f"{run_in_words(run['name'])}: {run['summary']}" for run in runs]
        return "NOT COMPARED: nothing is known", "; ".join(reasons) or "no run could be judged"
    if results["grade"] == FAILED:
        return "FAILED: do not ship", "; ".join(_why_failed(results, judged))
    return "PASSED: may be shipped", "; ".join(_why_passed(results, judged))


def _why_failed(results: Mapping[str, Any], judged: Runs) -> list[str]:
    why = list(results["faults"][:1])
    failed = [run_in_words(run["name"]) for run in judged if run["grade"] == FAILED]
    if failed:
        why.append(f"{len(failed)} of {_counted(len(judged), 'run')} disagree: {', '.join(failed)}")
    missed = [each["title"] for each in results["negative_controls"] if each["caught"] is False]
    if missed:
        why.append(
            f"a planted fault went unnoticed ({', '.join(missed)}), so equal label maps prove "
            "little here"
        )
    return why


def _why_passed(results: Mapping[str, Any], judged: Runs) -> list[str]:
    counts = Counter(run["grade"] for run in judged)
    parts = [f"{counts[IDENTICAL]} identical"] if counts[IDENTICAL] else []
    if ties := [run for run in judged if run["grade"] == NEAR_TIE_GRADE]:
        most = max(run["different_pixels"] for run in ties)
        parts.append(
            f"{len(ties)} equal but for at most {_counted(most, 'pixel')} at which the network "
            "itself was undecided"
        )
    if counts[WITHIN_BUDGET]:
        parts.append(f"{counts[WITHIN_BUDGET]} within the budget of the precision")
    images = _counted(results["num_images"], "image")
    why = [f"{_counted(len(judged), 'run')} over {images}: {', '.join(parts)}"]
    shown = [each for each in results["negative_controls"] if each["caught"] is not None]
    if shown:
        why.append(f"{len(shown)} of {len(shown)} planted faults were noticed")
    return why


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
