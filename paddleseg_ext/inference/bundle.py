"""The bundle: the folder that export writes and the only thing that inference reads.

`model.json` (Paddle 3) or `model.pdmodel` (2.6), `model.pdiparams` and `deploy.yaml`. Its section
`Deploy:` has PaddleSeg's keys, so PaddleSeg's tools read it; `Manifest:` says what PaddleSeg's does
not: where the weights came from, how pixels become the input, how the output becomes a label map.
The same network may lie beside it as ONNX (`model.onnx`, `model_int8.onnx`). `Manifest.graphs` says
how these were made and checked, `Manifest.verified` which runtimes gave the network's output and
how fast they are. `MODEL_CARD.md` says the same to people. It is copied with the bundle, and has no
hash in `Manifest.files`, because people complete it.

An ONNX file from elsewhere is a bundle, too: `Deploy.model` names it, or `bundle_for_onnx` does.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from paddleseg_ext.common.errors import UsageError, check_choice, check_keys, cut, shown
from paddleseg_ext.common.files import require_file, sha256_of, write_text
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.common.text import check_file_name, check_name, check_names
from paddleseg_ext.common.yml import dump_yaml, read_sections
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.inference.calibration import Calibration, ClassStatistics
from paddleseg_ext.inference.model_card import CARD_FILE, rewrite_verdicts
from paddleseg_ext.inference.postprocess import NO_SCORES, OUTPUT_OPS, RESIZE_BACK, Postprocess
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.scoring.protocols import EvaluationRule

MANIFEST_FORMAT = 1
DEPLOY_FILE = "deploy.yaml"
DEPLOY_SECTION = "the section 'Deploy:' of a deploy.yaml, which export_model.py writes,"
MODEL_FILES = ("model.json", "model.pdmodel")
PARAMS_FILE = "model.pdiparams"
ONNX_FILE = "model.onnx"
ONNX_INT8_FILE = "model_int8.onnx"
MNN_FILE = "model.mnn"
NCNN_FILES = ("model.ncnn.param", "model.ncnn.bin")  # the graph, its weights
# Kind of graph -> its files; the others of a bundle are everybody's.
GRAPH_FILES = {
    "paddle": (*MODEL_FILES, PARAMS_FILE),
    "onnx": (ONNX_FILE,),
    "onnx_int8": (ONNX_INT8_FILE,),
    "mnn": (MNN_FILE,),
    "ncnn": NCNN_FILES,
}
ONNX_SUFFIX = ".onnx"
OUTPUTS = ("confidence", "familiarity")  # of a segmentation, beside its label map
FAMILIARITY = OUTPUTS[1]
NO_STATISTICS = (
    "familiarity compares with the classes of training images; paddleseg-ext calibrate "
    "--train_data LIST stores their statistics in the bundle"
)
INPUT_DTYPES = ("float32", "uint8")
INPUT_AXES = ("N", "3", "H", "W")
LARGEST_SIDE = 1 << 16


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
class _Checkpoint:
    path: str | None = None
    sha256: str | None = None
    iteration: int | None = option(None, "", at_least=0)


@dataclass(frozen=True)
class _Variables:
    loaded: int = option(0, "", at_least=0)
    total: int = option(0, "", at_least=0)


@dataclass(frozen=True)
class _PreprocessKeys:
    color_order: Literal["RGB", "BGR"] = "RGB"
    orientation: Orientation = "stored"
    value_range: list[int] | None = None
    layout: str | None = None


@dataclass(frozen=True)
class _PostprocessKeys:
    classes: Any
    output_op: str | None = None
    upsampling: Literal["graph", "half_pixel", "aligned"] = "graph"
    resize_back: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    class_statistics: dict[str, Any] = field(default_factory=dict)
    native_stride: int = option(0, "", at_least=0)


@dataclass(frozen=True)
class _Cost:
    parameters: int | None = option(None, "", at_least=0)
    multiply_adds: int | None = option(None, "", at_least=0)
    input_shape: list[int] | None = None


@dataclass(frozen=True)
class _ManifestKeys:
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


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `manifest` is None for what PaddleSeg exported.

    Attributes:
        deploy_file: its yaml; the ONNX file itself where there is none.
        model_file: the graph: `.json`, `.pdmodel`, or `.onnx` for one from elsewhere.
        params_file: None where the graph is ONNX.
        input_dtype: of the (N, 3, H, W) tensor; `uint8` where the graph normalises by itself.
    """

    deploy_file: Path
    model_file: Path
    params_file: Path | None
    transforms: list[dict[str, Any]]
    input_shape: list[int | None] | None
    output_op: str
    manifest: Manifest | None
    input_dtype: str = "float32"

    @property
    def is_legacy(self) -> bool:
        """Whether the graph is Paddle 2's `.pdmodel`."""
        return self.model_file.suffix == ".pdmodel"

    def with_onnx(self, file: Path) -> "Bundle":
        """The same bundle, its fp32 ONNX graph replaced."""
        return replace(self, model_file=file, params_file=None)

    @property
    def channels(self) -> int:
        """Of the graph's input; 3 where `deploy.yaml` does not say it."""
        channels = self.input_shape[1] if self.input_shape else None
        return 3 if channels is None or channels < 0 else channels

    def preprocess(self) -> Preprocess:
        """The preprocessing that makes the graph's input of an image.

        Raises:
            UsageError: the yaml names a transform that inference does not have.
        """
        orientation = self.manifest.orientation if self.manifest else "stored"
        try:
            return Preprocess(
                self.transforms, self.color_order, self.input_dtype, orientation, self.channels
            )
        except UsageError as error:
            raise UsageError(f"{self.deploy_file}: {error}") from None

    def postprocess(self) -> Postprocess:
        """The postprocessing that makes a label map of the graph's output."""
        upsampling = self.manifest.upsampling if self.manifest else "graph"
        calibration = self.manifest.calibration if self.manifest else None
        calibration = calibration or Calibration()
        return Postprocess(
            self.output_op,
            upsampling=upsampling,
            native_stride=self.manifest.native_stride if self.manifest else 0,
            temperature=calibration.temperature,
            class_temperatures=calibration.class_temperatures,
        )

    def require_outputs(
        self, outputs: Collection[str] = (), unknown_below: float | None = None
    ) -> None:
        """Refuse outputs that the graph cannot have; see `Predictor.with_outputs`.

        Raises:
            UsageError: an unknown one, or confidence of a graph that ends in arg-max.
        """
        check_outputs(outputs, unknown_below)
        if self.output_op == "argmax" and (outputs or unknown_below is not None):
            raise UsageError(f"{self.deploy_file}: {NO_SCORES}")
        if FAMILIARITY in outputs and self.class_statistics is None:
            raise UsageError(f"{self.deploy_file}: {NO_STATISTICS}")

    @property
    def class_statistics(self) -> ClassStatistics | None:
        """Statistics that familiarity needs; None where there are none."""
        return self.manifest.class_statistics if self.manifest else None

    @property
    def files(self) -> list[Path]:
        """The files that make up the bundle, its yaml first."""
        named = [*(self.manifest.files if self.manifest else ()), CARD_FILE]
        graph = [file for file in (self.model_file, self.params_file) if file is not None]
        more = [self.deploy_file.parent / name for name in named]
        return list(dict.fromkeys([self.deploy_file, *graph, *(f for f in more if f.is_file())]))

    @property
    def verified(self) -> Mapping[str, Verified]:
        """Runtime -> the record of its comparison; empty without a manifest."""
        return self.manifest.verified if self.manifest else {}

    @property
    def is_onnx(self) -> bool:
        """Whether there is no graph of Paddle's."""
        return self.model_file.suffix == ONNX_SUFFIX

    @property
    def has_onnx(self) -> bool:
        """Whether there is an FP32 ONNX graph."""
        return self.has_graph("onnx")

    def has_graph(self, kind: str) -> bool:
        """Whether there is a graph of a kind: `paddle`, or as `Manifest.graphs` has it."""
        if kind == "paddle":
            return not self.is_onnx
        named = self.manifest is not None and kind in self.manifest.graphs
        return named or (kind == "onnx" and self.is_onnx)

    def warn_of_changes(self, kind: str | None = None) -> None:
        """Warn of each file whose hash is not the manifest's.

        Args:
            kind: of the graph that runs, see `has_graph`: the files of others are left out. None
                takes all.
        """
        if self.manifest is None:
            return
        others = [names for other, names in GRAPH_FILES.items() if kind and other != kind]
        left_out = {name for names in others for name in names}
        for name, expected in self.manifest.files.items():
            file = self.deploy_file.parent / name
            if name not in left_out and file.is_file() and sha256_of(file) != expected:
                warn(
                    f"{file} was changed after the export: its hash is not the one in the manifest"
                )

    def graph_file(self, kind: str) -> Path:
        """The graph of a kind, see `has_graph`.

        Raises:
            UsageError: the bundle has none; it says how to make it.
        """
        if kind == "paddle":
            return self.model_file
        if kind in ("onnx", "onnx_int8"):
            return self.onnx_file("int8" if kind == "onnx_int8" else "fp32")
        if self.manifest is None or not self.has_graph(kind):
            raise UsageError(
                f"{self.deploy_file}: the bundle has no graph for {kind}; export it with "
                f"export_model.py --{kind} True"
            )
        file = self.manifest.graphs[kind]["file"]
        return require_file(self.deploy_file.parent / file, f"{self.deploy_file}: {kind}")

    def onnx_file(self, precision: str = "fp32") -> Path:
        """The ONNX graph of a precision; `bf16` is computed from that of `fp32`.

        Raises:
            UsageError: the bundle has none; it says how to make it.
        """
        is_float = precision != "int8"
        if self.is_onnx and is_float:
            return self.model_file
        name = "onnx" if is_float else "onnx_int8"
        graph = self.manifest.graphs.get(name) if self.manifest else None
        if graph is None:
            remedy = (
                "export it with export_model.py --onnx True"
                if is_float
                else f"make one with paddleseg-ext quantize --config {self.deploy_file}"
            )
            raise UsageError(
                f"{self.deploy_file}: the bundle has no {precision} ONNX graph; {remedy}"
            )
        return require_file(self.deploy_file.parent / graph["file"], f"{self.deploy_file}: {name}")

    @property
    def color_order(self) -> str:
        """RGB or BGR; without a manifest RGB, which is PaddleSeg's only order."""
        return self.manifest.color_order if self.manifest else "RGB"


def check_outputs(outputs: Collection[str], unknown_below: float | None) -> None:
    """Refuse unknown outputs, and a confidence that is none.

    Raises:
        UsageError: naming it.
    """
    if isinstance(outputs, str):
        raise UsageError(f"outputs: a set of words is expected, got '{cut(outputs)}'")
    for name in outputs:
        check_choice("outputs", name, OUTPUTS)
    if unknown_below is not None and not 0 < unknown_below < 1:
        raise UsageError(
            f"unknown_below: a number between 0 and 1 is expected, got {unknown_below}"
        )


def read_bundle(deploy_file: str | Path, hashed: bool = True) -> Bundle:
    """Read and check a `deploy.yaml` and the files it names. Nothing in it is executed.

    A file whose hash is not the manifest's gives a warning: whether the bundle still predicts
    right is a matter of its scores. A file that was cut short is refused, since Paddle loads it
    without an error where only the last tensor is cut.

    Args:
        deploy_file: or the bundle's folder.
        hashed: False leaves the hashes to `Bundle.warn_of_changes`, for who runs one of the graphs.

    Raises:
        UsageError: a missing or short file, an unknown key (the nearest is named), a wrong value.
    """
    path = Path(deploy_file)
    if path.is_dir():
        path = path / DEPLOY_FILE
    require_file(path, "--config")
    raw = read_sections(path, DEPLOY_SECTION)
    if not isinstance(raw.get("Deploy"), dict):
        raise UsageError(f"{path}: {DEPLOY_SECTION} is expected")
    if "Manifest" in raw:
        _check_format(raw["Manifest"], f"{path}: Manifest")
    check_keys(str(path), raw, ("Deploy", "Manifest"))
    deploy = from_section(DeploySection, raw["Deploy"], f"{path}: Deploy")
    output_op = deploy.output_op or "none"
    check_choice(f"{path}: output_op", output_op, OUTPUT_OPS)
    check_choice(f"{path}: input_dtype", deploy.input_dtype, INPUT_DTYPES)
    manifest = _read_manifest(raw["Manifest"], output_op, path) if "Manifest" in raw else None
    check_file_name(f"{path}: Deploy.model", deploy.model)
    check_file_name(f"{path}: Deploy.params", deploy.params)
    model_file = _find_model(path, deploy.model)
    params_file = None
    if model_file.suffix != ONNX_SUFFIX:
        params_file = require_file(path.parent / deploy.params, f"{path}: params")
    bundle = Bundle(
        deploy_file=path,
        model_file=model_file,
        params_file=params_file,
        transforms=_list_of_dicts(deploy.transforms, f"{path}: Deploy.transforms"),
        input_shape=deploy.input_shape,
        output_op=output_op,
        manifest=manifest,
        input_dtype=deploy.input_dtype,
    )
    _check_files(bundle)
    if hashed:
        bundle.warn_of_changes()
    return bundle


def bundle_for_onnx(
    onnx_file: str | Path,
    transforms: Sequence[Mapping[str, Any]] = (),
    output_op: str = "none",
    input_shape: list[int | None] | None = None,
    manifest: Manifest | None = None,
) -> Bundle:
    """An ONNX file from elsewhere as a bundle that was never written.

    Args:
        onnx_file: its first input takes (N, 3, H, W) float32, its first output gives what
            `output_op` says.
        transforms: from an image to that input, as in a yml.
        output_op: `none` (logits), `softmax` or `argmax`.
        input_shape: [N, 3, H, W], None where it is free.
        manifest: classes and colour order, where they are known.

    Raises:
        UsageError: no such file, or it is none of ONNX.
    """
    path = require_file(onnx_file, "ONNX graph")
    if path.suffix != ONNX_SUFFIX:
        raise UsageError(f"'{path}': a file with the suffix {ONNX_SUFFIX} is expected")
    return Bundle(
        deploy_file=path,
        model_file=path,
        params_file=None,
        transforms=[dict(spec) for spec in transforms],
        input_shape=input_shape,
        output_op=output_op,
        manifest=manifest,
    )


def record_verified(bundle: Bundle, records: Mapping[str, Verified]) -> None:
    """Write records of some runtimes into the bundle's `Manifest.verified`; others stay.

    The verdicts in its model card, where it has one, are rewritten.

    Raises:
        UsageError: the bundle has no Manifest to write into.
    """
    if bundle.manifest is None:
        raise UsageError(
            f"{bundle.deploy_file} has no Manifest to keep verdicts in; "
            "export the network with export_model.py"
        )
    content = read_sections(bundle.deploy_file, DEPLOY_SECTION)
    kept = content["Manifest"].get("verified") or {}
    new = {name: record.to_dict() for name, record in records.items()}
    content["Manifest"]["verified"] = kept | new
    write_text(bundle.deploy_file, dump_yaml(content))
    known = {name: Verified.from_dict(section, name) for name, section in kept.items()}
    rewrite_verdicts(bundle.deploy_file.parent, known | dict(records), bundle.manifest.calibration)


def record_graph(bundle: Bundle, name: str, **facts: str) -> None:
    """Write facts of a graph into its entry in the bundle's `Manifest.graphs`."""
    content = read_sections(bundle.deploy_file, DEPLOY_SECTION)
    content["Manifest"]["graphs"][name] |= facts
    write_text(bundle.deploy_file, dump_yaml(content))


def record_calibration(bundle: Bundle, record: Calibration) -> None:
    """Write a calibration into the bundle's `Manifest.postprocess`, in place of an earlier one.

    Raises:
        UsageError: the bundle has no Manifest to write into.
    """
    _write_postprocess(bundle, "calibration", record.to_dict())
    rewrite_verdicts(bundle.deploy_file.parent, bundle.verified, record)


def record_class_statistics(bundle: Bundle, statistics: ClassStatistics) -> None:
    """Write class statistics into the bundle's `Manifest.postprocess`, in place of earlier ones.

    Raises:
        UsageError: the bundle has no Manifest to write into.
    """
    _write_postprocess(bundle, "class_statistics", statistics.to_dict())


def _write_postprocess(bundle: Bundle, key: str, section: dict[str, Any]) -> None:
    if bundle.manifest is None:
        raise UsageError(f"{bundle.deploy_file} has no Manifest to keep a {key} in")
    content = read_sections(bundle.deploy_file, DEPLOY_SECTION)
    content["Manifest"]["postprocess"][key] = section
    write_text(bundle.deploy_file, dump_yaml(content))


def write_deploy_yaml(
    folder: str | Path,
    transforms: Iterable[Mapping[str, Any]],
    input_shape: list[int | None],
    output_op: str,
    manifest: Manifest,
    input_dtype: str = "float32",
) -> Path:
    """Write `deploy.yaml` into a folder that holds the model's files, hashing them.

    Args:
        folder: with `model.json` or `model.pdmodel`, and `model.pdiparams`.
        transforms: the validation transforms, as in the yml.
        input_shape: [N, 3, H, W], None or -1 where it is free.
        output_op: what the graph ends in.
        manifest: `files` and `sizes` are filled in here.
        input_dtype: `float32` or `uint8`.

    Raises:
        UsageError: the model's files are not there.
    """
    folder = Path(folder)
    present = [name for name in MODEL_FILES if (folder / name).is_file()]
    if len(present) != 1 or not (folder / PARAMS_FILE).is_file():
        raise UsageError(
            f"{folder}: one of {', '.join(MODEL_FILES)} and {PARAMS_FILE} are expected"
        )
    deploy = DeploySection(
        model=present[0],
        transforms=[dict(spec) for spec in transforms],
        input_shape=list(input_shape),
        input_dtype=input_dtype,
        output_op=output_op,
        output_dtype="int32" if output_op == "argmax" else "float32",
    )
    unhashed = (DEPLOY_FILE, CARD_FILE)
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name not in unhashed]
    manifest = replace(
        manifest,
        files={file.name: sha256_of(file) for file in files},
        sizes={file.name: file.stat().st_size for file in files},
    )
    path = folder / DEPLOY_FILE
    content = {"Deploy": asdict(deploy), "Manifest": _manifest_section(manifest, deploy)}
    write_text(path, dump_yaml(content))
    rewrite_verdicts(folder, manifest.verified, manifest.calibration)
    return path


def _manifest_section(manifest: Manifest, deploy: DeploySection) -> dict[str, Any]:
    output_op = deploy.output_op or "none"
    keys = [entry.name for entry in fields(_Checkpoint)]
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
    post: _PostprocessKeys, num_classes: int, where: str
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


def _list_of_dicts(value: Any, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{where}: a list of '- type: NAME' items is expected, got {shown(value)}")
    return value


def _find_model(path: Path, name: str) -> Path:
    """The graph's file. PaddleSeg on Paddle 3 names `model.pdmodel` and writes `model.json`."""
    named = path.parent / name
    if named.is_file():
        return named
    for other in MODEL_FILES:
        if (path.parent / other).is_file():
            warn(f"{path} names {named.name}, which is not there; using {other}")
            return path.parent / other
    return require_file(named, f"{path}: model")


def _check_format(manifest: Any, where: str) -> None:
    """The format comes first: the keys of a later one are not this release's to judge."""
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


def _read_manifest(raw: Any, output_op: str, path: Path) -> Manifest:
    where = f"{path}: Manifest"
    keys = from_section(_ManifestKeys, raw, where)
    check_name(f"{where}.network", keys.network)
    check_names(f"{where}.versions", (v for v in keys.versions.values() if v is not None))
    for name in keys.files:
        check_file_name(f"{where}.files", name)
    for name, graph in keys.graphs.items():
        check_file_name(f"{where}.graphs.{cut(name)}.file", graph.get("file"))
    post = from_section(_PostprocessKeys, keys.postprocess, f"{where}.postprocess")
    if post.output_op != output_op:
        raise UsageError(
            f"{where}.postprocess: output_op {shown(post.output_op)} and Deploy's "
            f"'{output_op}' differ; export the model again"
        )
    if post.upsampling != "graph" and output_op != "none":
        raise UsageError(
            f"{where}.postprocess.upsampling: 'graph' is expected where output_op is not 'none', "
            f"got '{post.upsampling}'"
        )
    if post.calibration and output_op != "none":
        raise UsageError(
            f"{where}.postprocess.calibration: a temperature divides logits; output_op 'none' is "
            f"expected, got '{output_op}'"
        )
    variables = from_section(_Variables, keys.variables, f"{where}.variables")
    preprocess = from_section(_PreprocessKeys, keys.preprocess, f"{where}.preprocess")
    cost = from_section(_Cost, keys.cost, f"{where}.cost") if keys.cost else None
    table = ClassTable.from_dict(post.classes, f"{where}.postprocess.classes")
    calibration, statistics = _read_calibration(post, table.num_classes, f"{where}.postprocess")
    return Manifest(
        network=keys.network,
        class_table=table,
        checkpoint=asdict(from_section(_Checkpoint, keys.checkpoint, f"{where}.checkpoint")),
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


def _check_files(bundle: Bundle) -> None:
    if bundle.manifest is None:
        return
    folder = bundle.deploy_file.parent
    for file in bundle.files[1:]:
        if file.name not in bundle.manifest.files:
            _require_inside(file, folder)
    for name, expected in bundle.manifest.files.items():
        file = folder / name
        size = bundle.manifest.sizes.get(name, 0)
        if file.is_file() and file.stat().st_size < size:
            raise UsageError(
                f"{file}: {size} bytes are expected, {file.stat().st_size} are there; "
                "copy the bundle again, or export it again"
            )
        if not file.is_file():
            warn(f"{file} is named in {bundle.deploy_file.name} and missing")
        elif file.is_symlink() and sha256_of(file) != expected:
            _require_inside(file, folder)


def _require_inside(file: Path, folder: Path) -> None:
    """Refuse a link out of the bundle to content that the manifest does not vouch for.

    What a bundle names is copied and passed on (`quantize`). A link to the manifest's own content,
    as in a cache of downloads, is as good as the file.
    """
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{file}: a file of the bundle is expected, this is a link to another one outside of "
            "it, whose sha256 is not in the manifest; put the file itself there"
        )
