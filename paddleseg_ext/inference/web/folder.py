"""The folder that `--web` writes: a page, its scripts, the graph, and ONNX Runtime Web."""

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, StrictUndefined

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import (
    atomic_directory,
    require_replaceable,
    write_bytes,
    write_json,
    write_text,
)
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.version import __version__
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.scenes import draw_scene
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.calibration import Calibration
from paddleseg_ext.inference.postprocess import NO_SCORES
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.web.runtime_files import (
    LICENCE,
    PAGE_FILES,
    require_archive,
    unpack,
)
from paddleseg_ext.scoring.protocols import COINCHEUNG, DEFAULT_PROTOCOL, PROTOCOLS, Protocol

FLAG = "--web"
PAGE, MODEL, RUNTIME, SAMPLES, LICENCES = (
    "index.html",
    "model.json",
    "onnxruntime",
    "samples",
    "LICENCES.txt",
)
PAGE_TEMPLATE = "page.html"
SHARED_SCRIPTS = ("view.js", "png.js", "style.css")  # of the service's page, too
SCRIPTS = (
    "resize.js",
    "preprocess.js",
    "postprocess.js",
    "segmenter.js",
)
PAGE_SCRIPTS = (*SHARED_SCRIPTS, *SCRIPTS, "images.js", "worker.js", "browser.js")
NODE_SCRIPTS = (*SCRIPTS, "png.js", "node.mjs")
INTERPOLATIONS = ("LINEAR", "NEAREST", "PILLOW_LINEAR")  # that the scripts have
NUM_SAMPLES = 3
SAMPLE_SIZE_WH = (384, 192)  # of the embedded data set
WHOLE = PROTOCOLS[DEFAULT_PROTOCOL]
PRECISIONS = {"fp32": "onnx", "int8": "onnx_int8"}


def static_file(name: str) -> Traversable:
    """A file of the pages, in this package."""
    return resources.files("paddleseg_ext.inference.web").joinpath("static", name)


def render_page(**values: Any) -> str:
    """The page; `is_service` is whether a service predicts, or the browser."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(static_file(PAGE_TEMPLATE).read_text("utf-8"))
    return template.render(num_samples=NUM_SAMPLES, **values)


def draw_sample(number: int) -> bytes:
    """A drawn street to try a page with, as PNG."""
    image, _ = draw_scene(number, SAMPLE_SIZE_WH)
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def check_web(bundle: Bundle) -> None:
    """Refuse a bundle that the scripts cannot run as `infer` does, before anything is written.

    Raises:
        UsageError: it has no ONNX graph, or resizes by an interpolation that they do not have.
    """
    if bundle.manifest is None:
        raise UsageError(
            f"{bundle.deploy_file} has no Manifest, which names the classes: {FLAG} needs a bundle "
            "of export_model.py"
        )
    bundle.onnx_file()
    check_transforms(bundle.preprocess(), str(bundle.deploy_file))


def check_transforms(preprocess: Preprocess, where: str) -> None:
    """Refuse transforms that the scripts do not have.

    Raises:
        UsageError: an interpolation that is not among `INTERPOLATIONS`.
    """
    for name, values in preprocess.settings:
        if values.get("interp", INTERPOLATIONS[0]) not in INTERPOLATIONS:
            raise UsageError(
                f"{where}: transforms: {name}: interp {values['interp']} is not offered in the "
                f"browser ({FLAG}); one of {', '.join(INTERPOLATIONS)} is"
            )


def prepare_web(folder: Path, preprocess: Preprocess, save_dir: Path) -> None:
    """Refuse what `write_web` will refuse, before an export, and fetch what it needs.

    Args:
        folder: of the page.
        preprocess: of the bundle.
        save_dir: that the bundle will be written into.

    Raises:
        UsageError: the folder is the bundle's or holds it; or see `check_transforms`,
            `check_folder` and `require_archive`.
    """
    own = save_dir.resolve()
    if folder.resolve() in (own, *own.parents):
        raise UsageError(
            f"{FLAG}: another folder than --save_dir, or one around it, is expected, got '{folder}'"
        )
    check_transforms(preprocess, FLAG)
    check_folder(folder)
    require_archive(FLAG)


def check_folder(folder: Path) -> None:
    """Refuse a folder whose content would be lost.

    Raises:
        UsageError: it holds something else than an earlier page.
    """
    graphs = [f"model_{precision}.onnx" for precision in PRECISIONS]
    names = {PAGE, RUNTIME, SAMPLES, LICENCES, *PAGE_SCRIPTS, *graphs}
    require_replaceable(folder, MODEL, names, FLAG)


def require_web_folder(folder: Path) -> None:
    """Refuse what `write_web` has not written.

    Raises:
        UsageError: the folder has no page or no model.
    """
    for name in (PAGE, MODEL, RUNTIME):
        if not (folder / name).exists():
            raise UsageError(
                f"{FLAG}: '{folder}' has no {name}: a folder of `paddleseg-ext export {FLAG} DIR` "
                "is expected"
            )


def write_web(bundle: Bundle, folder: str | Path, protocol: Protocol = WHOLE) -> Path:
    """Write a folder that segments images in the browser, with this bundle's network.

    Any web server serves it; nothing of an image leaves the machine that opens it.

    Args:
        bundle: with an ONNX graph.
        folder: replaced where it is an earlier one.
        protocol: how the page shows images to the network; one that it cannot follow is left out,
            with a warning.

    Returns:
        Its page.

    Raises:
        UsageError: see `check_web`, `check_folder` and `require_archive`.
    """
    folder = Path(folder)
    check_web(bundle)
    check_folder(folder)
    archive = require_archive(FLAG)
    try:
        check_protocol(bundle, protocol)
    except UsageError as error:
        warn(f"{FLAG}: {error}; the page shows whole images")
        protocol = WHOLE
    with atomic_directory(folder) as work:
        for name in PAGE_SCRIPTS:
            write_bytes(work / name, static_file(name).read_bytes())
        write_text(work / PAGE, render_page(is_service=False, root="", browser=""))
        for number in range(NUM_SAMPLES):
            write_bytes(work / SAMPLES / f"{number}.png", draw_sample(number))
        write_model(bundle, work, protocol)
        unpack(archive, work / RUNTIME, PAGE_FILES)
        write_text(work / LICENCES, LICENCE)
    return folder / PAGE


def check_protocol(bundle: Bundle, protocol: Protocol) -> None:
    """Refuse a protocol that the scripts cannot follow: they look once, at the whole image.

    Raises:
        UsageError: it has several looks, or the bundle's graph takes bytes.
    """
    plain = replace(protocol, scales=(1.0,), side_multiple=1, align_corners=False, merge="logits")
    plain = replace(plain, bytes_first=False)
    if len(protocol.scales) > 1 or not plain.is_plain:
        raise UsageError(f"protocol {protocol.name} is not offered in the browser")
    if not protocol.is_plain and bundle.input_dtype != "float32":
        raise UsageError(f"protocol {protocol.name} resizes tensors, and the graph takes bytes")


def write_model(bundle: Bundle, folder: Path, protocol: Protocol = WHOLE) -> None:
    """Write `model.json` and the graphs that it names."""
    graphs = {}
    for precision, key in PRECISIONS.items():
        if bundle.manifest is not None and key in bundle.manifest.graphs:
            graphs[precision] = f"model_{precision}.onnx"
            write_bytes(folder / graphs[precision], bundle.onnx_file(precision).read_bytes())
    write_json(folder / MODEL, describe(bundle, graphs, protocol))


def write_node_scripts(folder: Path) -> Path:
    """Write what runs a written model under node; returns the program."""
    for name in NODE_SCRIPTS:
        write_bytes(folder / name, static_file(name).read_bytes())
    write_json(folder / "package.json", {"type": "module"})
    return folder / "node.mjs"


def describe(
    bundle: Bundle, graphs: Mapping[str, str], protocol: Protocol = WHOLE
) -> dict[str, Any]:
    """The description of a bundle for the scripts; `graphs` are precision -> file."""
    manifest, preprocess = bundle.manifest, bundle.preprocess()
    assert manifest is not None  # of `check_web`
    (_, reading), *transforms = preprocess.settings
    shape = bundle.input_shape or [None, preprocess.channels, None, None]
    calibration = manifest.calibration or Calibration()
    return {
        "written_by": f"paddleseg_ext {__version__}",
        "network": manifest.network,
        "classes": class_entries(manifest.class_table),
        "palette": manifest.class_table.full_palette.tolist(),
        "graphs": dict(graphs),
        "transforms": [
            {"type": name} | {key: _finite(value) for key, value in values.items()}
            for name, values in transforms
        ],
        "color_order": reading["color_order"],
        "orientation": reading["orientation"],
        "channels": preprocess.channels,
        "input_dtype": bundle.input_dtype,
        "input_shape": [side or -1 for side in shape],
        "output_op": bundle.output_op,
        "upsampling": manifest.upsampling,
        "native_stride": manifest.native_stride,
        "protocol": describe_protocol(protocol),
        "calibration": {
            "temperature": calibration.temperature,
            "class_temperatures": calibration.class_temperatures,
        },
        "no_confidence": _why_no_confidence(bundle, protocol),
    }


def _why_no_confidence(bundle: Bundle, protocol: Protocol) -> str:
    """Why `infer` makes no confidence of this bundle; empty where it does."""
    if bundle.output_op == "argmax":
        return NO_SCORES
    if not protocol.is_plain:
        by = f"the bundle is run by protocol {protocol.name}"
        return f"it is the softmax of one run of the whole image, and {by}"
    return ""


def describe_protocol(protocol: Protocol) -> dict[str, Any] | None:
    """A protocol that `check_protocol` allows, for the scripts; None for the plain one."""
    if protocol.is_plain:
        return None
    return {
        "scale": protocol.scales[0],
        "side_multiple": protocol.side_multiple,
        "round_sides": protocol.round_sides,
        "align_corners": protocol.align_corners,
        "to_original": protocol.source == COINCHEUNG,
        "bytes_first": protocol.bytes_first,
        "softmax": protocol.merge == "window_softmax",
    }


def class_entries(table: ClassTable) -> list[dict[str, Any]]:
    """Id, name and colour per class."""
    named = zip(table.class_names, table.palette.tolist(), strict=True)
    return [
        {"id": i, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour)}
        for i, (name, colour) in enumerate(named)
    ]


def _finite(value: Any) -> Any:
    """JSON has no infinity; no side of an image is as long as this."""
    return 1e300 if isinstance(value, float) and math.isinf(value) else value
