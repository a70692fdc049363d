"""TensorRT for a bundle: shapes from the data, engines kept for the next run.

Paddle 2.6 builds engines inside its predictor; Paddle 3 converts the graph beforehand, and the
predictor loads what came of that. Both are asked for by the same `TensorRtOptions`.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_path, sha256_of
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.runtime import ShapeRange, TensorRtOptions

WORKSPACE_BYTES = 1 << 30
GRAPH_NAME = "model"
ENGINE_OPERATOR = "tensorrt_engine"
SHAPES_FILE = "shapes.pbtxt"
LEGACY_CACHE = "_opt_cache"  # Paddle 2.6's own name, beside the graph


def shapes_of(bundle: Bundle, sizes_hw: Sequence[tuple[int, int]], batch_size: int) -> ShapeRange:
    """The shapes that images of these sizes have in front of the network.

    Args:
        bundle: whose transforms are used.
        sizes_hw: (height, width) of the images; the typical one is that of the most of them.
        batch_size: of the largest batch; the last one of a run may be smaller.

    Raises:
        DataError: an image of such a size does not fit the transforms.
    """
    preprocess = bundle.preprocess()
    network = [preprocess.network_hw(size) for size in sizes_hw]
    common = max(sorted(set(network)), key=network.count)
    heights, widths = zip(*network, strict=True)
    return ShapeRange(
        (1, preprocess.channels, min(heights), min(widths)),
        (batch_size, preprocess.channels, *common),
        (batch_size, preprocess.channels, max(heights), max(widths)),
    )


def resolve_shapes(bundle: Bundle, options: TensorRtOptions) -> ShapeRange:
    """The options' shapes, or the bundle's where it was exported for one.

    Raises:
        UsageError: neither is known.
    """
    if options.shapes is not None:
        return options.shapes
    if _is_fixed(bundle):
        batch, channels, height, width = (int(side or 0) for side in bundle.input_shape or ())
        shape = (batch, channels, height, width)
        return ShapeRange(shape, shape, shape)
    raise UsageError(
        f"{bundle.deploy_file}: TensorRT needs to know the sizes of its inputs; "
        "export with --input_shape, or run infer.py, which takes them from the images"
    )


def _is_fixed(bundle: Bundle) -> bool:
    return all(side is not None and side > 0 for side in bundle.input_shape or [None])


def engine_folder(bundle: Bundle, options: TensorRtOptions, precision: str) -> Path:
    """Where the engines of this graph, precision and shapes are kept.

    Everything that they depend on is in the name, so that another export never meets old engines.
    """
    import paddle

    shapes = resolve_shapes(bundle, options)
    what = {
        "graph": sha256_of(bundle.model_file),
        "weights": sha256_of(bundle.params_file) if bundle.params_file else "",
        "paddle": paddle.__version__,
        "precision": precision,
        "shapes": asdict(shapes),
        "min_subgraph_size": options.min_subgraph_size,
    }
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    parent = options.cache_dir or bundle.deploy_file.parent / "tensorrt"
    return parent / f"{precision}_{key}"


def prepare_legacy(bundle: Bundle, options: TensorRtOptions, precision: str) -> tuple[Path, Path]:
    """Paddle 2.6: the graph in a folder of its own, with the range of every shape in it.

    Paddle 2.6 keeps calibration tables beside the graph that it read, whatever folder is set for
    the engines. So the graph is copied to where both shall be.

    Returns:
        The graph and the weights for the predictor.

    Raises:
        UsageError: the shapes of the inputs are not known.
    """
    assert bundle.params_file is not None  # a legacy graph without weights is refused on reading
    folder = engine_folder(bundle, options, precision)
    graph, params = folder / bundle.model_file.name, folder / bundle.params_file.name
    for source, target in ((bundle.model_file, graph), (bundle.params_file, params)):
        if not target.is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
    if not _is_fixed(bundle) and not (folder / SHAPES_FILE).is_file():
        with atomic_path(folder / SHAPES_FILE) as temporary:
            collect_shapes(bundle, resolve_shapes(bundle, options), temporary)
    return graph, params


def collect_shapes(bundle: Bundle, shapes: ShapeRange, path: Path) -> None:
    """Write the range of every tensor's shape inside a legacy graph to `path`.

    TensorRT builds its engines for these. They do not depend on the device, so a CPU runs the
    graph: at the smallest and the largest shape, and twice at the typical one, which makes that
    the most frequent and so the one that engines are tuned for.
    """
    from paddle import inference

    config = inference.Config(str(bundle.model_file), str(bundle.params_file))
    config.disable_glog_info()
    config.disable_gpu()
    config.disable_mkldnn()
    config.collect_shape_range_info(str(path))
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    for shape in (shapes.least, shapes.most, shapes.typical, shapes.typical):
        handle.reshape(shape)
        handle.copy_from_cpu(np.zeros(shape, bundle.input_dtype))
        predictor.run()
    del handle, predictor  # the file is written when the predictor goes


def enable_in_predictor(
    config: Any, bundle: Bundle, options: TensorRtOptions, precision: str
) -> None:
    """Paddle 2.6: have the predictor build engines, or load those that it kept."""
    config.enable_tensorrt_engine(
        workspace_size=WORKSPACE_BYTES,
        max_batch_size=resolve_shapes(bundle, options).most[0],
        min_subgraph_size=options.min_subgraph_size,
        precision_mode=precision_type(precision),
        use_static=True,
        use_calib_mode=precision == "int8",
    )
    if not _is_fixed(bundle):
        shapes_file = engine_folder(bundle, options, precision) / SHAPES_FILE
        config.enable_tuned_tensorrt_dynamic_shape(str(shapes_file), True)


def precision_type(precision: str) -> Any:
    """Paddle Inference's own value for a precision."""
    from paddle.inference import PrecisionType

    names = {"fp32": "Float32", "fp16": "Half", "int8": "Int8"}
    return getattr(PrecisionType, names[precision])


def count_legacy_engines(graph: Path) -> int:
    """Engines that Paddle 2.6 has built for a graph of `prepare_legacy`, from its files."""
    return len(list((graph.parent / LEGACY_CACHE).glob("trt_serialized_*")))


def is_calibrated(graph: Path) -> bool:
    """Whether an earlier INT8 run of a graph of `prepare_legacy` has left what it measured.

    Without it a run measures the ranges of its tensors, computes in FP32, and writes them when its
    predictor goes.
    """
    return any((graph.parent / LEGACY_CACHE).glob("trt_calib_*"))


def convert(bundle: Bundle, options: TensorRtOptions, precision: str) -> tuple[Path, Path]:
    """Paddle 3: the bundle's graph with TensorRT engines in it, converted once and then kept.

    Returns:
        The graph and the weights for the predictor.

    Raises:
        UsageError: Paddle has no TensorRT here, or nothing of the graph went into an engine.
    """
    folder = engine_folder(bundle, options, precision)
    graph, params = folder / f"{GRAPH_NAME}.json", folder / f"{GRAPH_NAME}.pdiparams"
    if not (graph.is_file() and params.is_file()):
        try:
            from paddle.tensorrt.export import Input, PrecisionMode, TensorRTConfig, convert
        except ImportError as error:
            raise UsageError(
                f"--use_trt True: this PaddlePaddle has no TensorRT ({error}); install "
                "the GPU build (docs/gpu.md) and TensorRT, or use --use_trt False"
            ) from None
        shapes = resolve_shapes(bundle, options)
        ordered = (shapes.least, shapes.typical, shapes.most)
        samples = tuple(np.zeros(shape, bundle.input_dtype) for shape in ordered)
        folder.mkdir(parents=True, exist_ok=True)
        convert(
            str(bundle.model_file),
            TensorRTConfig(
                inputs=[Input(warmup_data=samples)],
                min_subgraph_size=options.min_subgraph_size,
                save_model_dir=str(folder / GRAPH_NAME),
                precision_mode=PrecisionMode[precision.upper()],
                workspace_size=WORKSPACE_BYTES,
            ),
        )
    if not count_engines(graph):
        raise UsageError(
            f"--use_trt True: nothing of {bundle.model_file.name} went into a TensorRT engine; "
            f"try a --min_subgraph_size below {options.min_subgraph_size}, or --use_trt False"
        )
    return graph, params


def count_engines(graph: Path) -> int:
    """TensorRT engines in a graph of Paddle 3, from its file."""
    return graph.read_text(encoding="utf-8").count(ENGINE_OPERATOR) if graph.is_file() else 0
