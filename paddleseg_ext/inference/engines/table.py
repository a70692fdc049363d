"""ENGINES: every library that can run a network here, in one table.

Opening, `--backend auto`, parity, tune, bench and error messages read it. A new engine is a line
here and a class that loads, runs and describes (`engines.base`).
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.runtime import RuntimeSpec

if TYPE_CHECKING:
    from paddleseg_ext.inference.bundle import Bundle
    from paddleseg_ext.inference.engines.base import Engine

PADDLE, ONNX, ONNX_INT8 = "paddle", "onnx", "onnx_int8"
_FP32: Mapping[str, str] = {"fp32": PADDLE}
_ONNX: Mapping[str, str] = {"fp32": ONNX, "int8": ONNX_INT8}
_PADDLE_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu")


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        package: the module that is imported.
        distributions: names of the package on PyPI, the usual one first.
        extra: of `pip install paddleseg_ext[...]`.
        where: `module:class`, imported when the engine is opened.
        own_name: `RuntimeReport.name`.
        graphs: precision on a CPU -> the bundle's graph that it runs.
        devices: that it runs on.
        streams: whether several runs at a time are possible.
        pinning: whether its threads can be bound to cores.
    """

    package: str
    distributions: tuple[str, ...]
    extra: str
    where: str
    own_name: str
    graphs: Mapping[str, str] = field(default_factory=lambda: _FP32)
    devices: tuple[str, ...] = ("cpu",)
    streams: bool = False
    pinning: bool = False

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
        with optional_imports(f"engine {self.package}", self.extra):
            importlib.import_module(self.package)
        return getattr(importlib.import_module(module), name)


_ENGINES = "paddleseg_ext.inference.engines."
ENGINES: Mapping[str, EngineEntry] = {
    "paddle": EngineEntry(
        *("paddle", _PADDLE_PACKAGES, "cpu", f"{_ENGINES}paddle_inference:PaddleInference"),
        *("paddle_inference", _FP32, ("cpu", "gpu")),
    ),
    "paddle_onednn": EngineEntry(
        *("paddle", _PADDLE_PACKAGES, "cpu", f"{_ENGINES}paddle_inference:PaddleInference"),
        "paddle_inference",
    ),
    "onnxruntime": EngineEntry(
        *("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "onnxruntime"),
        *(f"{_ENGINES}onnx_runtime:OnnxRuntime", "onnxruntime", _ONNX),
        streams=True,
        pinning=True,
    ),
    "openvino": EngineEntry(
        *("openvino", ("openvino",), "openvino", f"{_ENGINES}openvino_runtime:OpenVino"),
        *("openvino", _ONNX),
        streams=True,
        pinning=True,
    ),
    "static": EngineEntry(
        *("paddle", _PADDLE_PACKAGES, "cpu", f"{_ENGINES}static_graph:StaticGraph"),
        *("static_graph", _FP32, ("cpu", "gpu")),
    ),
    # The only reference upwards: a checkpoint needs the networks and PaddleSeg's parts.
    "eager": EngineEntry(
        *("paddle", _PADDLE_PACKAGES, "cpu", "paddleseg_ext.evaluation.eager:open_checkpoint"),
        *("eager", _FP32, ("cpu", "gpu")),
    ),
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
