"""The self-check of an export: a bundle's graphs against the network they were made of."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from paddle import nn

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.log import log
from paddleseg_ext.evaluation.eager import EagerNetwork
from paddleseg_ext.export.folding import normalize_batch
from paddleseg_ext.export.options import ExportOptions
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.inference.bundle import ONNX_FILE, Bundle
from paddleseg_ext.inference.engines.open import open_backend
from paddleseg_ext.inference.preprocess import Normalize
from paddleseg_ext.scoring.verdict import FAILED, NEAR_TIE, judge_image

# The sizes at which a bundle is checked, (height, width). The second is no multiple of anything;
# some of PaddleSeg's networks refuse that, and are checked at the third instead.
CHECKED_SIZES_HW = ((256, 512), (203, 331))
EVEN_SIZE_HW = (192, 320)
CHECKED_BATCH = 2


def check_bundle(
    bundle: Bundle,
    model: nn.Layer,
    options: ExportOptions,
    normalize: Normalize | None,
    check_image: Path | None,
) -> None:
    """Runs a bundle with oneDNN off and on, and its ONNX graph, and compares with the network.

    Args:
        bundle: as written.
        model: the network that it was made of.
        options: of the export.
        normalize: the transform that the graph contains and `model` does not.
        check_image: the image to compare on; None: a drawn scene.

    Raises:
        CheckFailed: they differ by more than rounding; the message says where and by how much.
    """
    if check_image is None:
        from paddleseg_ext.images.scenes import draw_scene

        log("self-check: no validation image at hand, a drawn street scene is used")
        image = draw_scene(seed=0, size_wh=(512, 256))[0]
    else:
        image = read_image(check_image)
    tensor, _ = bundle.preprocess()(image)
    cases = [
        _make_case(model, tensor, size_hw, options, normalize)
        for size_hw in _checked_sizes_hw(options)
    ]
    runs = {
        "Paddle Inference, oneDNN off": "paddle",
        "Paddle Inference, oneDNN on": "paddle_onednn",
    }
    if bundle.deploy_file.with_name(ONNX_FILE).is_file():
        runs["ONNX Runtime"] = "onnxruntime"
    for title, name in runs.items():
        backend = open_backend(bundle, name)
        for batch, logits in cases:
            sizes = "x".join(map(str, batch.shape))
            output = backend.run(batch)
            if options.upsample == "host":
                output = bundle.postprocess().network_scores(output, batch.shape[2:])
            where = f"{title}, input {sizes}"
            log(f"self-check: {where}: {_compare(output, logits, options.output_op, where)}")


def _checked_sizes_hw(options: ExportOptions) -> list[tuple[int, int]]:
    height, width = options.input_shape[2:]
    sizes = {(height if height > 0 else h, width if width > 0 else w) for h, w in CHECKED_SIZES_HW}
    return sorted(sizes, reverse=True)


def _make_case(
    model: nn.Layer,
    tensor: NDArray,
    size_hw: tuple[int, int],
    options: ExportOptions,
    normalize: Normalize | None,
) -> tuple[NDArray, NDArray[np.float32]]:
    """A batch of `size_hw` for the graph, and the eager network's logits for it."""
    batch = _make_batch(tensor, size_hw, options)
    try:
        return batch, EagerNetwork(model).run(normalize_batch(batch, normalize))
    except (ValueError, RuntimeError):  # Paddle's errors for a size that does not fit
        if size_hw != CHECKED_SIZES_HW[1]:
            raise
    log(f"self-check: {type(model).__name__} refuses an input of {size_hw}, {EVEN_SIZE_HW} is used")
    return _make_case(model, tensor, EVEN_SIZE_HW, options, normalize)


def _make_batch(tensor: NDArray, size_hw: tuple[int, int], options: ExportOptions) -> NDArray:
    """`(N, 3, *size_hw)` of one image's `(3, h, w)` tensor; every second copy is mirrored."""
    resized = cv2.resize(tensor.transpose(1, 2, 0), size_hw[::-1], interpolation=cv2.INTER_AREA)
    plane = resized.transpose(2, 0, 1)
    count = options.input_shape[0] if options.input_shape[0] > 0 else CHECKED_BATCH
    images = [plane if i % 2 == 0 else plane[:, :, ::-1] for i in range(count)]
    return np.ascontiguousarray(np.stack(images), dtype=options.input_dtype)


def _compare(output: NDArray, logits: NDArray[np.float32], output_op: str, where: str) -> str:
    """The finding in words. The budget is that of FP32 kernels that sum in another order."""
    labels = output if output_op == "argmax" else output.argmax(axis=1)
    verdicts = [
        judge_image(f"image {i}", scores.argmax(axis=0).astype(np.uint8), got, scores)
        for i, (scores, got) in enumerate(zip(logits, labels.astype(np.uint8), strict=True))
    ]
    num_different = sum(verdict.num_different for verdict in verdicts)
    for verdict in verdicts:
        if verdict.grade == FAILED:
            raise _disagreement(where, f"{num_different} pixels change class; {verdict.reason}")
    finding = f"{num_different} pixels differ"
    if output_op == "argmax":
        return finding
    expected = logits if output_op == "none" else _softmax(logits)
    scale = float(np.abs(logits).max())
    difference = float(np.abs(output - expected).max())
    if not difference <= NEAR_TIE * max(1.0, scale):
        raise _disagreement(
            where, f"largest difference {difference:.3g} at logits up to {scale:.3g}"
        )
    return f"{finding}, largest difference {difference:.2g} at logits up to {scale:.3g}"


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _disagreement(where: str, finding: str) -> CheckFailed:
    return CheckFailed(
        f"{where}: the exported graph does not give the eager network's result: {finding}. No "
        "bundle was written"
    )
