"""Sections of a bundle's `deploy.yaml`, `Deploy:` and `Manifest:`, read, checked and written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from paddleseg_ext.common.errors import UsageError, cut, shown
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.common.text import check_file_name, check_name, check_names
from paddleseg_ext.common.transform_arguments import LARGEST_SIDE
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.inference.calibration import Calibration, ClassStatistics
from paddleseg_ext.inference.postprocess import RESIZE_BACK
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.scoring.protocols import EvaluationRule

MANIFEST_FORMAT = 1
MODEL_FILES = ("model.json", "model.pdmodel")
PARAMS_FILE = "model.pdiparams"
INPUT_DTYPES = ("float32", "uint8")
INPUT_AXES = ("N", "3", "H", "W")


@dataclass(frozen=True)
class DeploySection:
    """The section `Deploy:`, by PaddleSeg's keys; `input_dtype` is ours."""

    model: str = MODEL_FILES[0]
    params: str = PARAMS_FILE
    transforms: Any = None
    input_shape: list[int | None] | None = None
    input_dtype: str = INPUT_DTYPES[0]
    output_op: str | None = None
    output_dtype: str | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: an `input_shape` that is not that of images.
        """
        shape = self.input_shape
        if shape is not None and (
            len(shape) != len(INPUT_AXES)
            or any(side is not None and not -1 <= side <= LARGEST_SIDE for side in shape)
        ):
            raise ValueError(
                f"input_shape: {len(INPUT_AXES)} numbers up to {LARGEST_SIDE} are expected "
                f"([{', '.join(INPUT_AXES)}], -1 where a side is free), got {shown(shape)}"
            )


@dataclass(frozen=True)
class CheckpointKeys:
    """`Manifest.checkpoint`: the weights that were exported."""

    path: str | None = None
    sha256: str | None = None
    iteration: int | None = option(None, "", at_least=0)


@dataclass(frozen=True)
class VariablesKeys:
    """`Manifest.variables`: tensors that the checkpoint filled, and those of the network."""

    loaded: int = option(0, "", at_least=0)
    total: int = option(0, "", at_least=0)


@dataclass(frozen=True)
class PreprocessKeys:
    """`Manifest.preprocess`: from an image file to the tensor, beside `Deploy.transforms`."""

    color_order: Literal["RGB", "BGR"] = "RGB"
    orientation: Orientation = "stored"
    value_range: list[int] | None = None
    layout: str | None = None


@dataclass(frozen=True)
class PostprocessKeys:
    """`Manifest.postprocess`: from the graph's output to a label map."""

    classes: Any
    output_op: str | None = None
    upsampling: Literal["graph", "half_pixel", "aligned"] = "graph"
    resize_back: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    class_statistics: dict[str, Any] = field(default_factory=dict)
    native_stride: int = option(0, "", at_least=0)


@dataclass(frozen=True)
class CostKeys:
    """`Manifest.cost`: parameters, and multiply-adds for an input shape."""

    parameters: int | None = option(None, "", at_least=0)
    multiply_adds: int | None = option(None, "", at_least=0)
    input_shape: list[int] | None = None


@dataclass(frozen=True)
class ManifestKeys:
    """The section `Manifest:`; older bundles have no key that has a default."""

    format: int
    network: str
    checkpoint: dict[str, Any]
    variables: dict[str, Any]
    preprocess: dict[str, Any]
    postprocess: dict[str, Any]
    versions: dict[str, str | None]
    files: dict[str, str]
    sizes: dict[str, int]
    graphs: dict[str, dict] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A bundle's description of itself.

    Attributes:
        network: the model's `type`.
        checkpoint: `path`, `sha256` and `iteration` of the weights; values None where unknown.
        variables_loaded: tensors of the network that the checkpoint filled.
        variables_total: tensors that the network has.
        class_table: names, palette, ignore index and label lookup.
        color_order: RGB or BGR, of the tensor that the network sees.
        orientation: how image files are read, `stored` or `upright`.
        upsampling: how the scores come to the size of the input: in the `graph`, or in
            postprocessing (`half_pixel` or `aligned`).
        native_stride: of a network that pads its input, see `Postprocess`; 0 otherwise.
        versions: of Python and of the packages that made the bundle.
        files: file name -> sha256, of every file of the bundle but `deploy.yaml` and
            `MODEL_CARD.md`.
        sizes: file name -> bytes, of the same files.
        graphs: `onnx`, `onnx_int8`, `mnn` and `ncnn`, where there is one: its `file`, `opset`, how
            it was made and what its check found.
        verified: runtime (`onnxruntime`, `openvino_int8`, ...) -> the record of its comparison with
            the network.
        cost: `parameters` that run, and `multiply_adds` for an `input_shape`; empty where they
            were not counted.
        evaluation: how the network is evaluated; None where that is unknown.
        calibration: of the confidence; None where there was none.
        class_statistics: of the familiarity; None where there are none.
    """

    network: str
    class_table: ClassTable
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    variables_loaded: int = 0
    variables_total: int = 0
    color_order: str = "RGB"
    orientation: Orientation = "stored"
    upsampling: str = "graph"
    native_stride: int = 0
    versions: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    graphs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verified: Mapping[str, Verified] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    evaluation: EvaluationRule | None = None
    calibration: Calibration | None = None
    class_statistics: ClassStatistics | None = None


def manifest_section(manifest: Manifest, deploy: DeploySection) -> dict[str, Any]:
    """The section `Manifest:` as it is written."""
    output_op = deploy.output_op or "none"
    keys = [entry.name for entry in fields(CheckpointKeys)]
    return {
        "format": MANIFEST_FORMAT,
        "network": manifest.network,
        "checkpoint": {key: manifest.checkpoint.get(key) for key in keys},
        "variables": {"loaded": manifest.variables_loaded, "total": manifest.variables_total},
        "preprocess": {
            "color_order": manifest.color_order,
            "orientation": manifest.orientation,
            "value_range": [0, 255],
            "layout": f"NCHW {deploy.input_dtype}, after Deploy.transforms",
        },
        "postprocess": {
            "output_op": output_op,
            "upsampling": manifest.upsampling,
            **({"native_stride": manifest.native_stride} if manifest.native_stride else {}),
            "resize_back": RESIZE_BACK[output_op],
            "classes": manifest.class_table.to_dict(),
            **_calibration_section(manifest),
        },
        "versions": dict(manifest.versions),
        "files": dict(manifest.files),
        "sizes": dict(manifest.sizes),
        "graphs": {name: dict(graph) for name, graph in manifest.graphs.items()},
        "verified": {name: record.to_dict() for name, record in manifest.verified.items()},
        "cost": dict(manifest.cost),
        "evaluation": manifest.evaluation.to_dict() if manifest.evaluation else {},
    }


def _calibration_section(manifest: Manifest) -> dict[str, Any]:
    records = {
        "calibration": manifest.calibration,
        "class_statistics": manifest.class_statistics,
    }
    return {key: record.to_dict() for key, record in records.items() if record is not None}


def _read_calibration(
    post: PostprocessKeys, num_classes: int, where: str
) -> tuple[Calibration | None, ClassStatistics | None]:
    calibration = statistics = None
    if post.calibration:
        calibration = from_section(Calibration, post.calibration, f"{where}.calibration")
        if calibration.class_temperatures:
            at = f"{where}.calibration.class_temperatures"
            _require_one_each(calibration.class_temperatures, num_classes, at)
    if post.class_statistics:
        at = f"{where}.class_statistics"
        statistics = from_section(ClassStatistics, post.class_statistics, at)
        _require_one_each(statistics.means, num_classes, f"{at}.means")
        _require_one_each(statistics.deviations, num_classes, f"{at}.deviations")
    return calibration, statistics


def _require_one_each(values: Sequence[float], num_classes: int, where: str) -> None:
    if len(values) != num_classes:
        raise UsageError(
            f"{where}: {num_classes} numbers are expected, one for each class, got {len(values)}"
        )


def check_format(manifest: Any, where: str) -> None:
    """Refuse a section of another format. It comes first: keys of a later one are unknown here.

    Raises:
        UsageError: with the remedy.
    """
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(found, int) and found > MANIFEST_FORMAT:
        raise UsageError(
            f"{where}: format {MANIFEST_FORMAT} is expected, got {found}: a later release of "
            "paddleseg_ext wrote it; use that one"
        )
    if found != MANIFEST_FORMAT or isinstance(found, bool):
        raise UsageError(
            f"{where}: format {MANIFEST_FORMAT} is expected, got {shown(found)}; "
            "export the model again"
        )


def manifest_from_section(raw: Any, output_op: str, path: Path) -> Manifest:
    """The manifest that a section `Manifest:` describes.

    Args:
        raw: the section.
        output_op: of the section `Deploy:`, which the manifest repeats.
        path: of the `deploy.yaml`, for messages.

    Raises:
        UsageError: an unknown key, a wrong value, contradictions.
    """
    where = f"{path}: Manifest"
    keys = from_section(ManifestKeys, raw, where)
    check_name(f"{where}.network", keys.network)
    check_names(f"{where}.versions", (v for v in keys.versions.values() if v is not None))
    for name in keys.files:
        check_file_name(f"{where}.files", name)
    for name, graph in keys.graphs.items():
        check_file_name(f"{where}.graphs.{cut(name)}.file", graph.get("file"))
    post = from_section(PostprocessKeys, keys.postprocess, f"{where}.postprocess")
    _check_postprocess(post, output_op, f"{where}.postprocess")
    variables = from_section(VariablesKeys, keys.variables, f"{where}.variables")
    preprocess = from_section(PreprocessKeys, keys.preprocess, f"{where}.preprocess")
    cost = from_section(CostKeys, keys.cost, f"{where}.cost") if keys.cost else None
    table = ClassTable.from_dict(post.classes, f"{where}.postprocess.classes")
    calibration, statistics = _read_calibration(post, table.num_classes, f"{where}.postprocess")
    return Manifest(
        network=keys.network,
        class_table=table,
        checkpoint=asdict(from_section(CheckpointKeys, keys.checkpoint, f"{where}.checkpoint")),
        variables_loaded=variables.loaded,
        variables_total=variables.total,
        color_order=preprocess.color_order,
        orientation=preprocess.orientation,
        upsampling=post.upsampling,
        native_stride=post.native_stride,
        versions=keys.versions,
        files=keys.files,
        sizes=keys.sizes,
        graphs=keys.graphs,
        verified={
            name: Verified.from_dict(record, f"{where}.verified.{cut(name)}")
            for name, record in keys.verified.items()
        },
        cost=asdict(cost) if cost else {},
        calibration=calibration,
        class_statistics=statistics,
        evaluation=from_section(EvaluationRule, keys.evaluation, f"{where}.evaluation")
        if keys.evaluation
        else None,
    )


def _check_postprocess(post: PostprocessKeys, output_op: str, where: str) -> None:
    """Refuse what contradicts the end of the graph."""
    if post.output_op != output_op:
        raise UsageError(
            f"{where}: output_op {shown(post.output_op)} and Deploy's "
            f"'{output_op}' differ; export the model again"
        )
    if post.upsampling != "graph" and output_op != "none":
        raise UsageError(
            f"{where}.upsampling: 'graph' is expected where output_op is not 'none', "
            f"got '{post.upsampling}'"
        )
    if post.calibration and output_op != "none":
        raise UsageError(
            f"{where}.calibration: a temperature divides logits; output_op 'none' is "
            f"expected, got '{output_op}'"
        )
