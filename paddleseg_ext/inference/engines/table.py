"""ENGINES: every library that can run a network here, in one table.

Opening, `--backend auto`, parity, tune, bench and error messages read it. A new engine is a line
here and a class that loads, runs and describes (`engines.base`).
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.chatter import quiet_import
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.native_output import without_lines
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.runtime import RuntimeSpec

if TYPE_CHECKING:
    from paddleseg_ext.inference.bundle import Bundle
    from paddleseg_ext.inference.engines.base import Engine

PADDLE, ONNX, ONNX_INT8, MNN, NCNN = "paddle", "onnx", "onnx_int8", "mnn", "ncnn"


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        package: the module that is imported.
        distributions: names of the package on PyPI, the usual one first.
        extra: of `pip install paddleseg_ext[...]`.
        where: `module:class`, imported when the engine is opened.
        own_name: `RuntimeReport.name`.
        graphs: precision on a CPU -> the bundle's graph that it runs (`Bundle.graph_file`).
        devices: that it runs on.
        streams: whether several runs at a time are possible.
        slow_sharing: whether one run per thread gives more images per second than one on all.
        pinning: whether its threads can be bound to cores.
        prints: how the lines begin that the package prints, past Python, and that are hidden.
    """

    package: str
    distributions: tuple[str, ...]
    extra: str
    where: str
    own_name: str
    graphs: Mapping[str, str]
    devices: tuple[str, ...] = ("cpu",)
    streams: bool = False
    slow_sharing: bool = False
    pinning: bool = False
    prints: tuple[str, ...] = ()

    @property
    def runs_onnx(self) -> bool:
        """Whether its graph is ONNX."""
        return ONNX in self.graphs.values()

    @property
    def is_installed(self) -> bool:
        """Whether the package can be found; it is not imported."""
        return find_spec(self.package) is not None

    @property
    def installed_version(self) -> str | None:
        """Release of the installed package, without a build's suffix; None where unknown."""
        for name in self.distributions:
            try:
                return release(metadata.version(name))
            except metadata.PackageNotFoundError:
                continue
        return None

    def load(self) -> Any:
        """The class, or function, that `where` names.

        Raises:
            UsageError: the engine's package is not installed.
        """
        module, _, name = self.where.partition(":")
        if self.package == "paddle":
            fix_thread_count()  # Paddle reads the environment once, when it is imported
        with optional_imports(f"engine {self.package}", self.extra), quiet_import():
            if self.prints:
                with without_lines(self.prints):
                    importlib.import_module(self.package)
            importlib.import_module(self.package)
        return getattr(importlib.import_module(module), name)


def _paddle(
    where: str,
    own_name: str,
    devices: tuple[str, ...] = ("cpu", "gpu"),
    precisions: tuple[str, ...] = ("fp32",),
) -> EngineEntry:
    packages, graphs = ("paddlepaddle", "paddlepaddle-gpu"), dict.fromkeys(precisions, PADDLE)
    return EngineEntry("paddle", packages, "cpu", where, own_name, graphs, devices)


def _onnx(name: str, where: str, *packages: str, has_bf16: bool = False) -> EngineEntry:
    graphs = {"fp32": ONNX, **({"bf16": ONNX} if has_bf16 else {}), "int8": ONNX_INT8}
    return EngineEntry(name, packages, name, where, name, graphs, streams=True, pinning=True)


_HERE = "paddleseg_ext.inference.engines"
_PADDLE_INFERENCE = f"{_HERE}.paddle_inference:PaddleInference"
ENGINES: Mapping[str, EngineEntry] = {
    "paddle": _paddle(_PADDLE_INFERENCE, "paddle_inference"),
    "paddle_onednn": _paddle(_PADDLE_INFERENCE, "paddle_inference", ("cpu",), ("fp32", "bf16")),
    "onnxruntime": _onnx(
        "onnxruntime", f"{_HERE}.onnx_runtime:OnnxRuntime", "onnxruntime", "onnxruntime-gpu"
    ),
    "openvino": _onnx("openvino", f"{_HERE}.openvino_runtime:OpenVino", "openvino", has_bf16=True),
    "mnn": EngineEntry(
        "MNN",
        ("MNN",),
        "mnn",
        f"{_HERE}.mnn_runtime:Mnn",
        "mnn",
        {"fp32": MNN},
        streams=True,
        slow_sharing=True,
        prints=("The device supports: ", "MNN use "),
    ),
    "ncnn": EngineEntry(
        "ncnn",
        ("ncnn",),
        "ncnn",
        f"{_HERE}.ncnn_runtime:Ncnn",
        "ncnn",
        dict.fromkeys(("fp32", "bf16"), NCNN),
        streams=True,
        slow_sharing=True,
    ),
    "static": _paddle(f"{_HERE}.static_graph:StaticGraph", "static_graph"),
    # The only reference upwards: a checkpoint needs the networks and PaddleSeg's parts.
    "eager": _paddle("paddleseg_ext.evaluation.eager:open_checkpoint", "eager"),
}
# Those that deploy a bundle, as `--backend` takes them.
DEPLOYED = tuple(name for name in ENGINES if name not in ("static", "eager"))
ONNX_ENGINES = tuple(name for name, entry in ENGINES.items() if entry.runs_onnx)


def release(version: str) -> str:
    """A version without what a build adds: `2.6.2.post120` -> `2.6.2`."""
    return re.split(r"\.post|[+-]", version)[0]


def open_engine(bundle: "Bundle", spec: RuntimeSpec) -> "Engine":
    """Load a bundle into the engine of a runtime.

    Raises:
        UsageError: the package is not installed, the bundle has no graph for it, or the engine
            cannot do what is asked for.
    """
    spec.check()
    return ENGINES[spec.engine].load()(bundle, spec)
