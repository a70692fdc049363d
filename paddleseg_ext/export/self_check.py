"""The self-check of an export: a bundle's graphs against the network they were made of.

Each runtime that is installed runs the bundle, is compared with the eager network, and is timed in
turns with the others. The findings are the first records of the bundle's `Manifest.verified`.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from paddle import nn

from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import available_cores, cpu_name
from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.evaluation.trials import REFERENCE, Judging, Trial
from paddleseg_ext.export.folding import normalize_batch
from paddleseg_ext.export.options import ExportOptions
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.bundle import Bundle, read_bundle, record_graph
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.postprocess import softmax
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import ImageNormalize, Preprocess
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.scoring.verdict import FAILED, NEAR_TIE, ImageVerdict, RunVerdict, judge_image

# The sizes at which a bundle is checked, (height, width). The second is no multiple of anything;
# some of PaddleSeg's networks refuse that, and are checked at the third instead.
CHECKED_SIZES_HW = ((256, 512), (203, 331))
EVEN_SIZE_HW = (192, 320)
CHECKED_BATCH = 2
# Of the logits, relative to the largest. Winograd's way with large tiles, MNN's, rounds more:
# 2.7e-4 in BiSeNetV1 with random weights. Its label maps are held to the rule of all.
TOLERANCES = {"mnn": 10 * NEAR_TIE}
ROUNDS = 5  # of timed runs, the runtimes in turns
TITLES = {
    "paddle": "Paddle Inference, oneDNN off",
    "paddle_onednn": "Paddle Inference, oneDNN on",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "mnn": "MNN",
    "ncnn": "ncnn",
}

Case = tuple[NDArray, NDArray[np.float32]]  # a batch for the graph, the network's logits for it


class OnnxRefused(CheckFailed):
    """ONNX Runtime cannot run `model.onnx`, or gets another result; the rest is good."""


def check_bundle(
    bundle: Bundle,
    model: nn.Layer,
    options: ExportOptions,
    normalize: ImageNormalize | None,
    check_image: Path | None,
) -> dict[str, Verified]:
    """Run a bundle in every installed runtime, and compare with the network.

    Args:
        bundle: as written.
        model: the network that it was made of.
        options: of the export.
        normalize: the transform that the graph contains and `model` does not.
        check_image: the image to compare on; None: a drawn scene.

    Returns:
        Runtime -> the record for `Manifest.verified`.

    Raises:
        CheckFailed: every runtime differs by more than rounding; the message says where and by
            how much. Or the network itself gives another result each time.
        OnnxRefused: that was asked for.
    """
    tensor = _image_tensor(bundle.preprocess(), check_image)
    cases = [
        _make_case(model, tensor, size_hw, options, normalize)
        for size_hw in _checked_sizes_hw(options)
    ]
    trials: dict[str, Trial] = {}
    failures: dict[str, Exception] = {}
    judging = Judging("export", available_cores())
    for name in TITLES:
        entry = ENGINES[name]
        if not entry.is_installed or not bundle.has_graph(entry.graphs["fp32"]):
            continue
        try:
            run = _try_mnn if name == "mnn" else _try
            trials[name] = run(name, bundle, cases, options)
        except (CheckFailed, UsageError) as error:
            if name == "onnxruntime" and options.onnx:
                raise OnnxRefused(str(error)) from error
            failures[name] = error
    if not trials:
        raise next(iter(failures.values()))
    # A bundle is good where one runtime is right: `auto` takes none that is recorded as failed.
    for name, failure in failures.items():
        warn(f"self-check: {TITLES[name]} is recorded as failed: {failure}")
    records = {name: _failed(name, len(cases), judging) for name in failures}
    _time_in_turns(trials, cases[0][0])
    reference = trials.get(REFERENCE) or next(iter(trials.values()))
    for name, trial in trials.items():
        if not trial.predictor.shortfall():
            records[name] = judging.record(trial, reference)
    return records


def _failed(name: str, num_images: int, judging: Judging) -> Verified:
    """The record of a runtime that does not give the network's result."""
    return Verified(
        **RunVerdict(FAILED, num_images).figures(),
        command=judging.command,
        version=ENGINES[name].installed_version or "",
        cpu=cpu_name(),
        cpu_threads=judging.threads,
    )


def _image_tensor(preprocess: Preprocess, path: Path | None) -> np.ndarray:
    """The network's input for an image, or for a drawn scene where there is none."""
    if path is not None:
        return preprocess(read_image(path, preprocess.orientation))[0]
    from paddleseg_ext.images.scenes import draw_scene

    log("self-check: there is no validation image, a drawn street scene is used")
    return preprocess(draw_scene(seed=0, size_wh=(512, 256))[0])[0]


def _try(name: str, bundle: Bundle, cases: list[Case], options: ExportOptions) -> Trial:
    """One runtime on every case.

    Raises:
        CheckFailed: it does not return the network's result.
        UsageError: it cannot run the graph.
    """
    trial = Trial(Predictor.of_bundle(bundle, RuntimeSpec(name)))
    for batch, logits in cases:
        output = trial.predictor.engine.run(batch)
        if options.upsample == "host":
            output = trial.predictor.postprocess.network_scores(output, batch.shape[2:])
        where = f"{TITLES[name]}, input {'x'.join(map(str, batch.shape))}"
        verdicts = _judge(output, logits, options.output_op)
        tolerance = TOLERANCES.get(name, NEAR_TIE)
        finding = _compare(output, logits, options.output_op, verdicts, where, tolerance)
        log(f"self-check: {where}: {finding}")
        trial.verdicts += verdicts
    return trial


def _try_mnn(name: str, bundle: Bundle, cases: list[Case], options: ExportOptions) -> Trial:
    """MNN in large tiles, or in small ones where these round too much; the bundle says which.

    Raises:
        CheckFailed: neither returns the network's result.
    """
    try:
        return _try(name, bundle, cases, options)
    except CheckFailed as error:
        log(f"self-check: {error}; MNN takes small tiles")
    record_graph(bundle, name, tiles="small")
    return _try(name, read_bundle(bundle.deploy_file), cases, options)


def _time_in_turns(trials: Mapping[str, Trial], batch: NDArray) -> None:
    """Rounds of one run per runtime, so that a busy machine is unfair to none."""
    for _ in range(ROUNDS):
        for trial in trials.values():
            trial.seconds.append(trial.predictor.engine.run_timed(batch)[1].total_s)


def _checked_sizes_hw(options: ExportOptions) -> list[tuple[int, int]]:
    height, width = options.input_shape[2:]
    sizes = {(height if height > 0 else h, width if width > 0 else w) for h, w in CHECKED_SIZES_HW}
    return sorted(sizes, reverse=True)


def _make_case(
    model: nn.Layer,
    tensor: NDArray,
    size_hw: tuple[int, int],
    options: ExportOptions,
    normalize: ImageNormalize | None,
) -> Case:
    """A batch of `size_hw` for the graph, and the eager network's logits for it."""
    batch = _make_batch(tensor, size_hw, options)
    try:
        images = normalize_batch(batch, normalize)
        logits = EagerEngine(model).run(images)
        _require_repeatable(model, images, logits)
        return batch, logits
    except DataError:
        if size_hw != CHECKED_SIZES_HW[1]:
            raise
    log(f"self-check: {type(model).__name__} refuses an input of {size_hw}, {EVEN_SIZE_HW} is used")
    return _make_case(model, tensor, EVEN_SIZE_HW, options, normalize)


def _require_repeatable(model: nn.Layer, images: NDArray, logits: NDArray[np.float32]) -> None:
    """Refuse a network that gives another result each time: no graph can be compared with it.

    Raises:
        CheckFailed: it draws random numbers, or its dropout is on.
    """
    again = EagerEngine(model).run(images)
    difference = float(np.abs(again - logits).max())
    scale = float(np.abs(logits).max())
    if difference > NEAR_TIE * max(1.0, scale):
        raise CheckFailed(
            f"{type(model).__name__} gives another result each time it runs (largest difference "
            f"{difference:.3g} at logits up to {scale:.3g}): it draws random numbers, or dropout "
            "is on, when it predicts; no graph can be compared with it"
        )


def _make_batch(tensor: NDArray, size_hw: tuple[int, int], options: ExportOptions) -> NDArray:
    """`(N, C, *size_hw)` of one image's `(C, h, w)` tensor; every second copy is mirrored."""
    resized = cv2.resize(tensor.transpose(1, 2, 0), size_hw[::-1], interpolation=cv2.INTER_AREA)
    plane = resized.reshape(*size_hw, len(tensor)).transpose(2, 0, 1)  # of grey it is (h, w)
    count = options.input_shape[0] if options.input_shape[0] > 0 else CHECKED_BATCH
    images = [plane if i % 2 == 0 else plane[:, :, ::-1] for i in range(count)]
    return np.ascontiguousarray(np.stack(images), dtype=options.input_dtype)


def _judge(output: NDArray, logits: NDArray[np.float32], output_op: str) -> list[ImageVerdict]:
    """The verdict on each image. The budget is that of FP32 kernels that sum in another order."""
    labels = (output if output_op == "argmax" else output.argmax(axis=1)).astype(np.uint8)
    return [
        judge_image(f"image {i}", scores.argmax(axis=0).astype(np.uint8), got, scores)
        for i, (scores, got) in enumerate(zip(logits, labels, strict=True))
    ]


def _compare(
    output: NDArray,
    logits: NDArray[np.float32],
    output_op: str,
    verdicts: list[ImageVerdict],
    where: str,
    tolerance: float,
) -> str:
    """The finding in words."""
    num_different = sum(verdict.num_different for verdict in verdicts)
    for verdict in verdicts:
        if verdict.grade == FAILED:
            raise _disagreement(where, f"{num_different} pixels change class; {verdict.reason}")
    finding = f"{num_different} pixels differ"
    if output_op == "argmax":
        return finding
    expected = logits if output_op == "none" else softmax(logits)
    scale = float(np.abs(logits).max())
    difference = float(np.abs(output - expected).max())
    if not difference <= tolerance * max(1.0, scale):
        raise _disagreement(
            where, f"largest difference {difference:.3g} at logits up to {scale:.3g}"
        )
    return f"{finding}, largest difference {difference:.2g} at logits up to {scale:.3g}"


def _disagreement(where: str, finding: str) -> CheckFailed:
    return CheckFailed(
        f"{where}: the exported graph does not give the eager network's result: {finding}"
    )
