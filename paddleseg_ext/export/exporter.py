"""A checkpoint -> a bundle that was seen to give the eager network's answer.

The graph is traced, written, loaded back by our own predictor with oneDNN off and on (and, as ONNX,
by ONNX Runtime), and compared with the network it came from. A bundle that disagrees is not left
behind.
"""

import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.checkpoints.store import load_into
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import TEMPORARY_PREFIX, require_writable, sha256_of
from paddleseg_ext.common.log import log
from paddleseg_ext.common.version import __version__
from paddleseg_ext.config import Config
from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.export.cost import count_cost
from paddleseg_ext.export.folding import fold_normalize, normalize_batch, split_normalize
from paddleseg_ext.export.native_output import NativeOutput, upsampling_of
from paddleseg_ext.export.onednn_safe import traced_operators
from paddleseg_ext.export.onnx_conversion import require_paddle2onnx, write_onnx
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.bundle import (
    DEPLOY_FILE,
    MODEL_FILES,
    ONNX_FILE,
    ONNX_INT8_FILE,
    PARAMS_FILE,
    Bundle,
    Manifest,
    read_bundle,
    write_deploy_yaml,
)
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.postprocess import softmax
from paddleseg_ext.inference.preprocess import Normalize, Preprocess
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.models.build import build_model
from paddleseg_ext.scoring.verdict import FAILED, NEAR_TIE, judge_image

GRAPH_NAME = "model"
# The sizes at which a bundle is checked, (height, width). The second is no multiple of anything;
# some of PaddleSeg's networks refuse that, and are checked at the third instead.
CHECKED_SIZES_HW = ((256, 512), (203, 331))
EVEN_SIZE_HW = (192, 320)
CHECKED_BATCH = 2


@dataclass(frozen=True)
class ExportOptions:
    """The flags of `export_model.py`.

    Attributes:
        input_shape: [N, 3, H, W], -1 where the graph takes any.
        output_op: what the graph ends in: `none` (logits), `argmax` (int32 labels), `softmax`.
        onnx: also write `model.onnx`.
        fold_normalize: the graph takes bytes and normalises them itself.
        upsample: `graph`, or `host`: the logits are enlarged by post-processing.
    """

    save_dir: Path
    input_shape: tuple[int, int, int, int] = (-1, 3, -1, -1)
    output_op: str = "none"
    onnx: bool = False
    fold_normalize: bool = False
    upsample: str = "graph"

    @property
    def input_dtype(self) -> str:
        """Of the graph's input."""
        return "uint8" if self.fold_normalize else "float32"


class _DeployNetwork(nn.Layer):
    """The main head and what the graph ends in."""

    def __init__(self, model: nn.Layer, output_op: str):
        super().__init__()
        self.model = model
        self.output_op = output_op

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)[0]
        if self.output_op == "argmax":
            return paddle.argmax(logits, axis=1, dtype="int32")
        if self.output_op == "softmax":
            return nn.functional.softmax(logits, axis=1)
        return logits


def export(
    config: Config,
    model_path: str,
    options: ExportOptions,
    class_table: ClassTable,
    check_image: Path | None,
) -> Path:
    """Write the bundle of a checkpoint into `options.save_dir`; returns its `deploy.yaml`.

    Args:
        config: the yml the checkpoint was trained with.
        model_path: the `.pdparams`.
        options: the flags.
        class_table: names, palette and label values, for the manifest.
        check_image: what the self-check looks at; None takes a drawn street scene, and says so.

    Raises:
        UsageError: the checkpoint does not fit, or validation uses transforms that inference
            does not have.
        CheckFailed: the exported graph does not give the eager result, and nothing is written; or
            it cannot be converted to ONNX, and the bundle is written without that.
    """
    transforms = config.val_dataset.get("transforms") or []
    Preprocess(transforms)  # refuses what inference does not have, before anything is loaded
    model, manifest = _load(config, model_path, class_table, options)
    require_writable(options.save_dir, "--save_dir")
    deployed, normalize = model, None
    if options.fold_normalize:
        transforms, normalize = split_normalize(transforms)
        deployed = fold_normalize(model, normalize)
    if options.upsample == "host":
        manifest = replace(manifest, upsampling=upsampling_of(model))
        deployed = NativeOutput(deployed)
    if options.onnx:
        require_paddle2onnx()
    work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=options.save_dir))
    try:
        trace(deployed, options, work / GRAPH_NAME)
        graphs, no_onnx = _convert(work, options) if options.onnx else ({}, "")
        manifest, options = replace(manifest, graphs=graphs), replace(options, onnx=bool(graphs))
        shape: list[int | None] = list(options.input_shape)
        write_deploy_yaml(work, transforms, shape, options.output_op, manifest, options.input_dtype)
        check_bundle(read_bundle(work), model, options, normalize, check_image)
        _move_into_place(work, options.save_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if no_onnx:
        raise CheckFailed(no_onnx)
    return options.save_dir / DEPLOY_FILE


def _load(
    config: Config, model_path: str, class_table: ClassTable, options: ExportOptions
) -> tuple[nn.Layer, Manifest]:
    """The network in inference mode with the checkpoint's weights, and what is to be told of it."""
    model = build_model(config, class_table.num_classes)
    report = load_into(model, model_path)
    log(f"{model_path}: {report.describe()}")
    model.eval()
    manifest = Manifest(
        network=str(config.model["type"]),
        class_table=class_table,
        checkpoint=_describe_checkpoint(model_path),
        variables_loaded=report.loaded,
        variables_total=report.total,
        versions=_versions(),
        cost=_describe_cost(model, options),
    )
    return model, manifest


def _convert(work: Path, options: ExportOptions) -> tuple[dict[str, dict[str, Any]], str]:
    """Write the ONNX graph: what the manifest says of it, or why there is none and what to do."""
    try:
        graph = write_onnx(_graph_in(work), work / PARAMS_FILE, work / ONNX_FILE)
    except CheckFailed as failure:
        free = any(side < 0 for side in options.input_shape[2:])
        remedy = ", or try a fixed size: --input_shape -1 3 HEIGHT WIDTH" if free else ""
        return {}, (
            f"{options.save_dir / ONNX_FILE} is missing: {failure}. The rest of the bundle is "
            f"checked and there: use --backend paddle{remedy}"
        )
    return {"onnx": graph}, ""


def _versions() -> dict[str, str]:
    """Of what makes a bundle, for the manifest."""
    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "paddleseg_ext": __version__,
    }


def _describe_checkpoint(model_path: str) -> dict[str, Any]:
    return {
        "path": str(model_path),
        "sha256": sha256_of(model_path),
        "iteration": read_manifest(model_path).iteration,
    }


def _describe_cost(model: nn.Layer, options: ExportOptions) -> dict[str, Any]:
    """For the graph's own size, or where that is free, the one that the self-check begins with."""
    sides = zip(options.input_shape[2:], CHECKED_SIZES_HW[0], strict=True)
    shape = [1, 3, *(side if side > 0 else default for side, default in sides)]
    cost = count_cost(model, shape)
    return {
        "parameters": cost.used_parameters,
        "multiply_adds": cost.multiply_adds,
        "input_shape": shape,
    }


def trace(model: nn.Layer, options: ExportOptions, path: Path) -> None:
    """Write the static graph of `model` in inference mode to `path` plus Paddle's suffixes."""
    shape = [side if side > 0 else None for side in options.input_shape]
    network = _DeployNetwork(model, options.output_op)
    network.eval()
    with traced_operators():
        static = paddle.jit.to_static(
            network,
            input_spec=[paddle.static.InputSpec(shape, options.input_dtype, "images")],
            full_graph=True,
        )
        paddle.jit.save(static, str(path))


def _graph_in(folder: Path) -> Path:
    return next(folder / name for name in MODEL_FILES if (folder / name).is_file())


def check_bundle(
    bundle: Bundle,
    model: nn.Layer,
    options: ExportOptions,
    normalize: Normalize | None,
    check_image: Path | None,
) -> None:
    """Run the bundle with oneDNN off and on, and its ONNX, and compare with the eager network.

    Args:
        bundle: what was written.
        model: what it was made of.
        options: the flags.
        normalize: what the graph does by itself and `model` does not.
        check_image: None takes a drawn scene.

    Raises:
        CheckFailed: they disagree by more than rounding; it says which, where and by how much.
    """
    if check_image is None:
        from paddleseg_ext.images.scenes import draw_scene

        log("self-check: no validation image at hand, a drawn street scene is used")
        image = draw_scene(seed=0, size_wh=(512, 256))[0]
    else:
        image = read_image(check_image)
    tensor, _ = bundle.preprocess()(image)
    sizes_hw = _checked_sizes(options)
    cases = [_make_case(model, tensor, size_hw, options, normalize) for size_hw in sizes_hw]
    runs = {
        "Paddle Inference, oneDNN off": "paddle",
        "Paddle Inference, oneDNN on": "paddle_onednn",
    } | ({"ONNX Runtime": "onnxruntime"} if options.onnx else {})
    for title, name in runs.items():
        engine = open_engine(bundle, RuntimeSpec(name))
        for batch, logits in cases:
            sizes = "x".join(map(str, batch.shape))
            output = engine.run(batch)
            if options.upsample == "host":
                output = bundle.postprocess().network_scores(output, batch.shape[2:])
            where = f"{title}, input {sizes}"
            log(f"self-check: {where}: {_compare(output, logits, options.output_op, where)}")


def _checked_sizes(options: ExportOptions) -> Sequence[tuple[int, int]]:
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
    """A batch of `size_hw` as the graph takes it, and the eager network's logits for it."""

    def answer(size_hw: tuple[int, int]) -> tuple[NDArray, NDArray[np.float32]]:
        batch = _make_batch(tensor, size_hw, options)
        images = normalize_batch(batch, normalize) if normalize else batch
        return batch, EagerEngine(model).run(images)

    try:
        return answer(size_hw)
    except (ValueError, RuntimeError):
        # Paddle names a size that does not fit in either way.
        if size_hw != CHECKED_SIZES_HW[1]:
            raise
    log(f"self-check: {type(model).__name__} refuses an input of {size_hw}, {EVEN_SIZE_HW} is used")
    return answer(EVEN_SIZE_HW)


def _make_batch(tensor: NDArray, size_hw: tuple[int, int], options: ExportOptions) -> NDArray:
    """`(N, 3, *size_hw)` from the `(3, h, w)` tensor of one image; every second is mirrored."""
    resized = cv2.resize(tensor.transpose(1, 2, 0), size_hw[::-1], interpolation=cv2.INTER_AREA)
    plane = resized.transpose(2, 0, 1)
    count = options.input_shape[0] if options.input_shape[0] > 0 else CHECKED_BATCH
    images = [plane if i % 2 == 0 else plane[:, :, ::-1] for i in range(count)]
    return np.ascontiguousarray(np.stack(images), dtype=options.input_dtype)


def _compare(output: NDArray, logits: NDArray[np.float32], output_op: str, where: str) -> str:
    """What was found, in words; the budget is that of FP32 kernels that sum in another order."""
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
    expected = logits if output_op == "none" else softmax(logits)
    scale = float(np.abs(logits).max())
    difference = float(np.abs(output - expected).max())
    if not difference <= NEAR_TIE * max(1.0, scale):
        raise _disagreement(
            where, f"largest difference {difference:.3g} at logits up to {scale:.3g}"
        )
    return f"{finding}, largest difference {difference:.2g} at logits up to {scale:.3g}"


def _disagreement(where: str, what: str) -> CheckFailed:
    return CheckFailed(
        f"{where}: the exported graph does not give the eager network's result: {what}. No bundle "
        "was written"
    )


def _move_into_place(work: Path, save_dir: Path) -> None:
    """Move a checked bundle where it belongs; `deploy.yaml` goes first and comes last.

    Without `deploy.yaml` there is no bundle, so a kill in between leaves none rather than one of
    two exports.
    """
    (save_dir / DEPLOY_FILE).unlink(missing_ok=True)
    for old in (*MODEL_FILES, PARAMS_FILE, ONNX_FILE, ONNX_INT8_FILE):
        (save_dir / old).unlink(missing_ok=True)
    for file in sorted(work.iterdir(), key=lambda path: path.name == DEPLOY_FILE):
        file.replace(save_dir / file.name)


def parse_input_shape(values: Sequence[int] | None) -> tuple[int, int, int, int]:
    """`--input_shape N 3 H W`, or only `3 H W` or `H W`; -1 stands for any.

    Raises:
        UsageError: another count of numbers, zeros, or another channel count.
    """
    if values is None:
        return (-1, 3, -1, -1)
    if len(values) not in (2, 3, 4) or any(v == 0 or v < -1 for v in values):
        raise UsageError(
            f"--input_shape: 'N 3 H W' with -1 for any is expected, got {list(values)}"
        )
    padded = [*(-1, 3)[: 4 - len(values)], *values] if len(values) != 3 else [-1, *values]
    if padded[1] != 3:
        raise UsageError(f"--input_shape: the networks take 3 channels, got {padded[1]}")
    return (padded[0], padded[1], padded[2], padded[3])
