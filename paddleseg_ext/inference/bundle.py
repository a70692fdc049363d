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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError, check_choice, check_keys, cut, shown
from paddleseg_ext.common.files import require_file, sha256_of, write_text
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import from_section
from paddleseg_ext.common.text import check_file_name
from paddleseg_ext.common.yml import dump_yaml, read_sections
from paddleseg_ext.inference.calibration import Calibration, ClassStatistics
from paddleseg_ext.inference.manifest import (
    INPUT_DTYPES,
    MODEL_FILES,
    PARAMS_FILE,
    DeploySection,
    Manifest,
    check_format,
    manifest_from_section,
    manifest_section,
)
from paddleseg_ext.inference.model_card import CARD_FILE, rewrite_verdicts
from paddleseg_ext.inference.postprocess import NO_SCORES, OUTPUT_OPS, Postprocess
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.verified import Verified

DEPLOY_FILE = "deploy.yaml"
DEPLOY_SECTION = "the section 'Deploy:' of a deploy.yaml, which export_model.py writes,"
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
                    f"{file} was changed after the export: its hash is not the one in the "
                    "manifest, whose verdicts and calibration are of another file; export again"
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
    section = raw.get("Manifest")
    if "Manifest" in raw:
        check_format(section, f"{path}: Manifest")
    check_keys(str(path), raw, ("Deploy", "Manifest"))
    deploy = from_section(DeploySection, raw["Deploy"], f"{path}: Deploy")
    output_op = deploy.output_op or "none"
    check_choice(f"{path}: output_op", output_op, OUTPUT_OPS)
    check_choice(f"{path}: input_dtype", deploy.input_dtype, INPUT_DTYPES)
    manifest = manifest_from_section(section, output_op, path) if "Manifest" in raw else None
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
    content = {"Deploy": asdict(deploy), "Manifest": manifest_section(manifest, deploy)}
    write_text(path, dump_yaml(content))
    rewrite_verdicts(folder, manifest.verified, manifest.calibration)
    return path


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
