"""A checkpoint -> a bundle whose graphs were compared with the network.

The graph is traced, written, and loaded by our own predictor with oneDNN off and on (and, as ONNX,
by ONNX Runtime). A bundle that disagrees with the network is not kept.
"""

import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from paddleseg_ext.checkpoints.manifest import configuration_of, read_manifest
from paddleseg_ext.checkpoints.store import load_into
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import (
    TEMPORARY_PREFIX,
    require_writable,
    sha256_of,
    writers_errors,
)
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.common.version import __version__
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import validation_data
from paddleseg_ext.evaluation.bundle_protocol import rule_for_bundle
from paddleseg_ext.evaluation.other_preprocessing import warn_of_other_preprocessing
from paddleseg_ext.evaluation.protocol_choice import requested_rule
from paddleseg_ext.export.cost import count_cost
from paddleseg_ext.export.mobile_graphs import require_mnn, require_pnnx, write_mnn, write_ncnn
from paddleseg_ext.export.model_card import write_card
from paddleseg_ext.export.onnx_conversion import (
    fold_sizes,
    has_paddle2onnx,
    require_paddle2onnx,
    write_onnx,
)
from paddleseg_ext.export.options import ExportOptions, with_channels
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.bundle import (
    DEPLOY_FILE,
    MNN_FILE,
    NCNN_FILES,
    ONNX_FILE,
    ONNX_INT8_FILE,
    Bundle,
    read_bundle,
    record_verified,
    write_deploy_yaml,
)
from paddleseg_ext.inference.manifest import MODEL_FILES, PARAMS_FILE, Manifest
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.inference.web.folder import prepare_web, write_web
from paddleseg_ext.models.build import build_model

MOBILE = ("mnn", "ncnn")  # engines whose graphs are made where they are asked for
CONVERTED_FILES = (ONNX_FILE, MNN_FILE, *NCNN_FILES)

if TYPE_CHECKING:
    from paddle import nn


def export(
    config: Config | None, weights: str | Path, options: ExportOptions = ExportOptions()
) -> Path:
    """Writes the bundle of a checkpoint into `options.save_dir`.

    The self-check looks at the first validation image, or without the data at a drawn scene. Its
    findings are recorded in the bundle. `MODEL_CARD.md` says to people what the bundle is; of an
    earlier one in the folder, what people wrote at its end stays.

    Args:
        config: the configuration of the training; None takes that of the checkpoint's manifest.
        weights: the `.pdparams`.
        options: what the graph takes and returns, and where the bundle goes.

    Returns:
        The bundle's `deploy.yaml`.

    Raises:
        UsageError: the checkpoint does not fit, or validation uses transforms that inference
            does not have.
        CheckFailed: a graph does not return the network's result, and nothing is written; or it
            cannot be converted to ONNX as asked, and the bundle is written without `model.onnx`.
    """
    fix_thread_count()  # before Paddle is imported

    from paddleseg_ext.export.folding import split_normalize
    from paddleseg_ext.export.self_check import check_bundle
    from paddleseg_ext.export.tracing import GRAPH_NAME, write_graph

    config = config or configuration_of(weights)
    data = validation_data(config)
    transforms, options = _checked(config, options)
    model, manifest = _load(config, weights, options, data.class_table)
    require_writable(options.save_dir, "--save_dir")
    normalize = None
    if options.fold_normalize:
        transforms, normalize = split_normalize(transforms)
    _require_converters(options)
    work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=options.save_dir))
    try:
        with writers_errors(options.save_dir, work), types_for(model):
            upsampling = write_graph(model, options, normalize, work / GRAPH_NAME)
            wants_onnx = has_paddle2onnx() if options.onnx is None else options.onnx
            graphs, missing = _convert(work, options) if wants_onnx else ({}, "")
            stride = getattr(model, "native_stride", 0) if options.upsample == "host" else 0
            manifest = replace(manifest, upsampling=upsampling, native_stride=stride, graphs=graphs)
            write = partial(_write_manifest, work, transforms, options)
            check = partial(check_bundle, model=model, options=options, normalize=normalize)
            check = partial(check, check_image=data.first_image)
            missing = _check_and_record(work, manifest, options, write, check) or missing
            data_set = str(config.val_dataset["type"])
            write_card(read_bundle(work), read_manifest(weights), data_set, options.save_dir)
        _warn_of_lost_calibration(options.save_dir / DEPLOY_FILE)
        _move_into_place(work, options.save_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _say_missing(missing, options)
    if options.web is not None:
        _write_page(read_bundle(options.save_dir), options.web)
    return options.save_dir / DEPLOY_FILE


def _write_page(bundle: Bundle, folder: Path) -> None:
    page = write_web(bundle, folder, rule_for_bundle(bundle).make())
    log(f"--web: {page} is the page to serve")


def _checked(config: Config, options: ExportOptions) -> tuple[list[Any], ExportOptions]:
    """The transforms of validation, and the options with the channels of its images.

    Raises:
        UsageError: a transform that inference does not have, or other channels; or see
            `prepare_web`.
    """
    transforms = config.val_dataset.get("transforms") or []
    preprocess = Preprocess(transforms, channels=config.img_channels)
    warn_of_export_section(config)
    if options.web is not None:
        prepare_web(options.web, preprocess, options.save_dir)
    shape = with_channels(options.input_shape, config.img_channels)
    return transforms, replace(options, input_shape=shape)


def _require_converters(options: ExportOptions) -> None:
    """Check that what the options ask for can be converted here.

    Raises:
        UsageError: a converter is not installed.
    """
    if options.onnx:
        require_paddle2onnx()
    if options.mnn:
        require_mnn()
    if options.ncnn:
        require_pnnx()


def _say_missing(why: str, options: ExportOptions) -> None:
    """A warning, or where ONNX was asked for an error; nothing for an empty reason."""
    if why and options.onnx:
        raise CheckFailed(why)
    if why:
        warn(why)


def _write_manifest(
    work: Path, transforms: list[Any], options: ExportOptions, manifest: Manifest
) -> None:
    write_deploy_yaml(
        work,
        transforms,
        list(options.input_shape),
        options.output_op,
        manifest,
        input_dtype=options.input_dtype,
    )


def _check_and_record(
    work: Path,
    manifest: Manifest,
    options: ExportOptions,
    write: Callable[[Manifest], None],
    check: Callable[[Bundle], dict[str, Verified]],
) -> str:
    """Write and check the bundle, and record the verdicts; without `model.onnx` if it is refused.

    Returns:
        Why a graph was left out, or is wrong; empty where none is.
    """
    from paddleseg_ext.export.self_check import OnnxRefused

    no_onnx = ""
    write(manifest)
    try:
        records = check(read_bundle(work))
    except OnnxRefused as refused:
        no_onnx = _without_onnx(str(refused).replace(f"{work}/", ""), options)
        for name in CONVERTED_FILES:
            (work / name).unlink(missing_ok=True)
        write(replace(manifest, graphs={}))
        records = check(read_bundle(work))
    record_verified(read_bundle(work), records)
    wrong = [name for name in MOBILE if name in records and not records[name].passed]
    if wrong:
        no_onnx = no_onnx or f"recorded as failed, see above: {', '.join(wrong)}"
    return no_onnx


def warn_of_export_section(config: Config) -> None:
    """One line where a yml's `export:` has other transforms than validation, which the bundle gets.

    Source: PaddleSeg 2.8, tools/export.py: `deploy.yaml` has the transforms of `val_dataset`.
    """
    section = config.export or {}
    if "transforms" in section and section["transforms"] != config.val_dataset.get("transforms"):
        warn(
            f"{config.path}: 'export' is not used, as in PaddleSeg 2.8: the bundle has "
            "val_dataset.transforms, by which the network is scored"
        )


def _load(
    config: Config, weights: str | Path, options: ExportOptions, class_table: ClassTable
) -> tuple["nn.Layer", Manifest]:
    """The network in inference mode with the checkpoint's weights, and the bundle's manifest."""
    model = build_model(config, class_table.num_classes)
    report = load_into(model, weights)
    log(f"{weights}: {report.describe()}")
    warn_of_other_preprocessing(config, weights)
    model.eval()
    manifest = Manifest(
        network=str(config.model["type"]),
        class_table=class_table,
        checkpoint=_describe_checkpoint(weights),
        variables_loaded=report.loaded,
        variables_total=report.total,
        versions=_versions(),
        orientation=config.orientation,
        cost=_describe_cost(model, options),
        evaluation=requested_rule(config.test_config, config.absent_class),
    )
    return model, manifest


def _convert(work: Path, options: ExportOptions) -> tuple[dict[str, dict[str, Any]], str]:
    """Writes the graphs that others are converted to.

    Returns:
        Their entries in the manifest, and why one is missing; empty where none is.
    """
    graph = next(work / name for name in MODEL_FILES if (work / name).is_file())
    try:
        entry = write_onnx(graph, work / PARAMS_FILE, work / ONNX_FILE)
        fold_sizes(work / ONNX_FILE, options.input_shape, options.input_dtype)
    except CheckFailed as failure:
        return {}, _without_onnx(str(failure), options)
    graphs = {"onnx": entry}
    try:
        if options.mnn:
            graphs["mnn"] = write_mnn(work / ONNX_FILE, work / MNN_FILE)
        if options.ncnn:
            shape = options.input_shape
            graphs["ncnn"] = write_ncnn(work / ONNX_FILE, work / NCNN_FILES[0], shape)
    except CheckFailed as failure:
        return graphs, f"{options.save_dir}: {failure}. The rest of the bundle is checked and there"
    return graphs, ""


def _without_onnx(reason: str, options: ExportOptions) -> str:
    """Why a bundle has no ONNX graph, and what to do, in one line."""
    free = any(side < 0 for side in options.input_shape[2:])
    remedy = ", or try a fixed size: --input_shape -1 3 HEIGHT WIDTH" if free else ""
    return (
        f"{options.save_dir / ONNX_FILE} is missing: {reason}. The rest of the bundle is "
        f"checked and there: use --backend paddle{remedy}"
    )


def _versions() -> dict[str, str]:
    """Versions of the packages that make a bundle."""
    import paddle

    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "paddleseg_ext": __version__,
    }


def _describe_checkpoint(weights: str | Path) -> dict[str, Any]:
    return {
        "path": str(weights),
        "sha256": sha256_of(weights),
        "iteration": read_manifest(weights).iteration,
    }


def _describe_cost(model: "nn.Layer", options: ExportOptions) -> dict[str, Any]:
    """The network's cost at the graph's size; a free side has that of the first self-check."""
    from paddleseg_ext.export.self_check import CHECKED_SIZES_HW

    sides = zip(options.input_shape[2:], CHECKED_SIZES_HW[0], strict=True)
    shape = [1, options.input_shape[1], *(side if side > 0 else default for side, default in sides)]
    cost = count_cost(model, shape)
    return {
        "parameters": cost.used_parameters,
        "multiply_adds": cost.multiply_adds,
        "input_shape": shape,
    }


def _warn_of_lost_calibration(earlier: Path) -> None:
    """Say that what `calibrate` stored in an earlier bundle, of other logits, is not taken over."""
    try:
        manifest = read_bundle(earlier, hashed=False).manifest if earlier.is_file() else None
    except UsageError:
        return  # no bundle, so nothing of `calibrate`'s
    if manifest and (manifest.calibration or manifest.class_statistics):
        warn(f"{earlier}: the earlier bundle's calibration is not kept; run calibrate again")


def _move_into_place(work: Path, save_dir: Path) -> None:
    """Moves a checked bundle into `save_dir`, replacing an earlier one.

    The earlier `deploy.yaml` is deleted first and the new one is moved last: a process that is
    killed in between leaves no bundle, rather than the files of two.
    """
    (save_dir / DEPLOY_FILE).unlink(missing_ok=True)
    for old in (*MODEL_FILES, PARAMS_FILE, *CONVERTED_FILES, ONNX_INT8_FILE):
        (save_dir / old).unlink(missing_ok=True)
    for file in sorted(work.iterdir(), key=lambda path: path.name == DEPLOY_FILE):
        file.replace(save_dir / file.name)
