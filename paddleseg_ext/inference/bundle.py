"""The bundle: the folder that export writes and the only thing that inference reads.

`model.json` (Paddle 3) or `model.pdmodel` (2.6), `model.pdiparams` and `deploy.yaml`. Its section
`Deploy:` has PaddleSeg's keys, so PaddleSeg's tools read it; `Manifest:` says what PaddleSeg's does
not: where the weights came from, how pixels become the input, how the output becomes a label map.
The same network may lie beside it as ONNX (`model.onnx`, `model_int8.onnx`). `Manifest.graphs` says
how these were made and checked, `Manifest.verified` which runtimes gave the network's output and
how fast they are.

An ONNX file from elsewhere is a bundle, too: `Deploy.model` names it, or `bundle_for_onnx` does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from paddleseg_ext.common.errors import UsageError, check_choice, check_keys
from paddleseg_ext.common.files import require_file, sha256_of, write_text
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import from_section
from paddleseg_ext.common.yml import read_sections
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.postprocess import OUTPUT_OPS, RESIZE_BACK, UPSAMPLINGS, Postprocess
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.verified import Verified

MANIFEST_FORMAT = 1
DEPLOY_FILE = "deploy.yaml"
DEPLOY_SECTION = "the section 'Deploy:' of an exported model"
MODEL_FILES = ("model.json", "model.pdmodel")
PARAMS_FILE = "model.pdiparams"
ONNX_FILE = "model.onnx"
ONNX_INT8_FILE = "model_int8.onnx"
ONNX_SUFFIX = ".onnx"
INPUT_DTYPES = ("float32", "uint8")

# The sections of a manifest and their keys; a section without keys holds names of its own.
MANIFEST_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("path", "sha256", "iteration"),
    "variables": ("loaded", "total"),
    "preprocess": ("color_order", "value_range", "layout"),
    "postprocess": ("output_op", "upsampling", "resize_back", "classes"),
    **dict.fromkeys(("versions", "files", "sizes"), ()),
}
# Older bundles have none of these.
OPTIONAL_SECTIONS: Mapping[str, Any] = {"graphs": {}, "verified": {}, "cost": {}}


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
        upsampling: how the scores come to the size of the input: in the `graph`, or in
            postprocessing (`half_pixel` or `aligned`).
        versions: of Python and of the packages that made the bundle.
        files: file name -> sha256, of every file of the bundle but `deploy.yaml`.
        sizes: file name -> bytes, of the same files.
        graphs: `onnx` and `onnx_int8`, where there is one: its `file`, `opset`, how it was made
            and what its check found.
        verified: runtime (`onnxruntime`, `openvino_int8`, ...) -> the record of its comparison with
            the network.
        cost: `parameters` that run, and `multiply_adds` for an `input_shape`; empty where they
            were not counted.
    """

    network: str
    class_table: ClassTable
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    variables_loaded: int = 0
    variables_total: int = 0
    color_order: str = "RGB"
    upsampling: str = "graph"
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    graphs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verified: Mapping[str, Verified] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


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

    def preprocess(self) -> Preprocess:
        """The preprocessing that makes the graph's input of an image.

        Raises:
            UsageError: the yaml names a transform that inference does not have.
        """
        return Preprocess(self.transforms, self.color_order, self.input_dtype)

    def postprocess(self) -> Postprocess:
        """The postprocessing that makes a label map of the graph's output."""
        upsampling = self.manifest.upsampling if self.manifest else "graph"
        return Postprocess(self.output_op, upsampling=upsampling)

    @property
    def files(self) -> list[Path]:
        """The files that make up the bundle, its yaml first."""
        named = list(self.manifest.files) if self.manifest else []
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
        return self.is_onnx or (self.manifest is not None and "onnx" in self.manifest.graphs)

    def onnx_file(self, precision: str = "fp32") -> Path:
        """The ONNX graph of a precision, `fp32` or `int8`.

        Raises:
            UsageError: the bundle has none; it says how to make it.
        """
        if self.is_onnx and precision == "fp32":
            return self.model_file
        name = "onnx" if precision == "fp32" else f"onnx_{precision}"
        graph = self.manifest.graphs.get(name) if self.manifest else None
        if graph is None:
            remedy = (
                "export it with export_model.py --onnx True"
                if precision == "fp32"
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


def read_bundle(deploy_file: str | Path) -> Bundle:
    """Read and check a `deploy.yaml` and the files it names. Nothing in it is executed.

    A file whose hash is not the manifest's gives a warning: whether the bundle still predicts
    right is a matter of its scores. A file that was cut short is refused, since Paddle loads it
    without an error where only the last tensor is cut.

    Raises:
        UsageError: a missing or short file, an unknown key (the nearest is named), a wrong value.
    """
    path = Path(deploy_file)
    if path.is_dir():
        path = path / DEPLOY_FILE
    require_file(path, "--config")
    raw = read_sections(path, DEPLOY_SECTION)
    if "Deploy" not in raw:
        raise UsageError(
            f"{path}: {DEPLOY_SECTION} is expected, as in the {DEPLOY_FILE} that export_model.py "
            "writes"
        )
    check_keys(str(path), raw, ("Deploy", "Manifest"))
    if not isinstance(raw["Deploy"], dict):
        raise UsageError(f"{path}: {DEPLOY_SECTION} is expected")
    deploy = from_section(DeploySection, raw["Deploy"], f"{path}: Deploy")
    output_op = deploy.output_op or "none"
    check_choice(f"{path}: output_op", output_op, OUTPUT_OPS)
    check_choice(f"{path}: input_dtype", deploy.input_dtype, INPUT_DTYPES)
    manifest = _read_manifest(raw["Manifest"], output_op, path) if "Manifest" in raw else None
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
    _write(bundle.deploy_file, content)


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
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name != DEPLOY_FILE]
    manifest = replace(
        manifest,
        files={file.name: sha256_of(file) for file in files},
        sizes={file.name: file.stat().st_size for file in files},
    )
    path = folder / DEPLOY_FILE
    _write(path, {"Deploy": asdict(deploy), "Manifest": _manifest_section(manifest, deploy)})
    return path


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _manifest_section(manifest: Manifest, deploy: DeploySection) -> dict[str, Any]:
    output_op = deploy.output_op or "none"
    keys = MANIFEST_SECTIONS["checkpoint"]
    return {
        "format": MANIFEST_FORMAT,
        "network": manifest.network,
        "checkpoint": {key: manifest.checkpoint.get(key) for key in keys},
        "variables": {"loaded": manifest.variables_loaded, "total": manifest.variables_total},
        "preprocess": {
            "color_order": manifest.color_order,
            "value_range": [0, 255],
            "layout": f"NCHW {deploy.input_dtype}, after Deploy.transforms",
        },
        "postprocess": {
            "output_op": output_op,
            "upsampling": manifest.upsampling,
            "resize_back": RESIZE_BACK[output_op],
            "classes": manifest.class_table.to_dict(),
        },
        "versions": dict(manifest.versions),
        "files": dict(manifest.files),
        "sizes": dict(manifest.sizes),
        "graphs": {name: dict(graph) for name, graph in manifest.graphs.items()},
        "verified": {name: record.to_dict() for name, record in manifest.verified.items()},
        "cost": dict(manifest.cost),
    }


def _list_of_dicts(value: Any, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{where}: a list of '- type: NAME' items is expected, got {value!r}")
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


def _read_manifest(raw: Any, output_op: str, path: Path) -> Manifest:
    where = f"{path}: Manifest"
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: a section is expected, got {raw!r}")
    if raw.get("format") != MANIFEST_FORMAT:
        raise UsageError(
            f"{where}: format {MANIFEST_FORMAT} is expected, got {raw.get('format')!r}; "
            "export the model again, or use the release that wrote it"
        )
    check_keys(where, raw, ("format", "network", *MANIFEST_SECTIONS, *OPTIONAL_SECTIONS))
    raw = {**OPTIONAL_SECTIONS, **raw}
    for name in (*MANIFEST_SECTIONS, *OPTIONAL_SECTIONS):
        if not isinstance(raw.get(name), dict):
            raise UsageError(
                f"{where}: the section '{name}' is expected, got {raw.get(name)!r}; "
                "export the model again"
            )
        check_keys(f"{where}.{name}", raw[name], MANIFEST_SECTIONS.get(name) or raw[name])
    post = raw["postprocess"]
    if post.get("output_op") != output_op:
        raise UsageError(
            f"{where}.postprocess: output_op '{post.get('output_op')}' and Deploy's "
            f"'{output_op}' differ; export the model again"
        )
    upsampling = post.get("upsampling", UPSAMPLINGS[0])
    if upsampling not in UPSAMPLINGS or (upsampling != "graph" and output_op != "none"):
        raise UsageError(
            f"{where}.postprocess.upsampling: one of {', '.join(UPSAMPLINGS)} is expected, and "
            f"'graph' where output_op is not 'none', got {upsampling!r}"
        )
    verified = {
        str(name): Verified.from_dict(record, f"{where}.verified.{name}")
        for name, record in raw["verified"].items()
    }
    return Manifest(
        network=str(raw.get("network")),
        class_table=ClassTable.from_dict(post.get("classes"), f"{where}.postprocess.classes"),
        variables_loaded=raw["variables"].get("loaded", 0),
        variables_total=raw["variables"].get("total", 0),
        color_order=raw["preprocess"].get("color_order", "RGB"),
        upsampling=upsampling,
        verified=verified,
        checkpoint=raw["checkpoint"],
        versions=raw["versions"],
        files=raw["files"],
        sizes=raw["sizes"],
        graphs=raw["graphs"],
        cost=raw["cost"],
    )


def _check_files(bundle: Bundle) -> None:
    if bundle.manifest is None:
        return
    for name, expected in bundle.manifest.files.items():
        file = bundle.deploy_file.parent / name
        size = bundle.manifest.sizes.get(name, 0)
        if file.is_file() and file.stat().st_size < size:
            raise UsageError(
                f"{file}: {size} bytes are expected, {file.stat().st_size} are there; "
                "copy the bundle again, or export it again"
            )
        if not file.is_file():
            warn(f"{file} is named in {bundle.deploy_file.name} and missing")
        elif sha256_of(file) != expected:
            warn(f"{file} was changed after the export: its hash is not the one in the manifest")
