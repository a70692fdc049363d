"""A runtime in one description: the engine, its precision and device, and how it is set up.

`RuntimeSpec` is what was asked for, `RuntimeReport` what the engine says of itself; `shortfall`
compares the two. Every verb, TIPC, the service and Ray use these and the names that `parse` reads.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError, check_choice, check_count, check_keys, shown
from paddleseg_ext.common.machine import (
    BF16_FLAGS,
    cpu_name,
    has_bf16,
    has_gpu_build,
    resolve_device,
)

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
GPU_PRECISIONS = ("fp32", "fp16", "int8")  # int8 by TensorRT only
DEVICES = ("cpu", "gpu")
MOST_THREADS = 1024  # more than an engine can start ends the process
REDUCED = ("bf16", "fp16", "int8")
MIN_SUBGRAPH = 3
AUTO = "auto"
# Names that users expect, and why there is no such runtime.
REFUSED = {
    "paddle_int8": "Paddle 3.2.2 has no INT8 on a CPU that runs (docs/quantization.md); "
    "use onnxruntime_int8 or openvino_int8",
}

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class ShapeRange:
    """Input shapes (N, 3, H, W) that TensorRT's engines are built for."""

    least: Shape
    typical: Shape
    most: Shape


@dataclass(frozen=True)
class TensorRtOptions:
    """Options of TensorRT.

    Attributes:
        shapes: None takes the bundle's fixed input shape.
        min_subgraph_size: smaller parts of the graph stay with Paddle.
        cache_dir: folder of built engines; None means `tensorrt` beside the bundle.
    """

    shapes: ShapeRange | None = None
    min_subgraph_size: int = MIN_SUBGRAPH
    cache_dir: Path | None = None


@dataclass(frozen=True)
class RuntimeReport:
    """An engine's own description of what runs.

    Attributes:
        name: the engine's name for itself, such as `paddle_inference`.
        version: of its package.
        device: `cpu` or `gpu`.
        precision: the precision that it computes in.
        cpu_threads: threads of all streams; None where the engine has no such setting.
        kernels: kernel -> calls in one run; empty where the engine does not list them.
        kernel_precisions: precision -> kernels that compute in it.
        tensorrt_engines: TensorRT engines in the graph.
        onednn_visible: whether oneDNN's log could be read; without it its kernels are unknown.
        details: further facts, for reports.
    """

    name: str
    version: str = ""
    device: str = "cpu"
    precision: str = "fp32"
    cpu_threads: int | None = None
    streams: int = 1
    pinned: bool = False
    kernels: Mapping[str, int] = field(default_factory=dict)
    kernel_precisions: Mapping[str, int] = field(default_factory=dict)
    tensorrt_engines: int = 0
    onednn_visible: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def int8_kernels(self) -> int:
        """Kernels that compute in INT8."""
        return self.kernel_precisions.get("int8", 0)

    def to_dict(self) -> dict[str, Any]:
        """One flat section for JSON, `details` beside the other keys."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        details = own.pop("details")
        return {**own, "int8_kernels": self.int8_kernels, **details}

    @classmethod
    def from_dict(cls, section: Any) -> "RuntimeReport":
        """The report that `to_dict` wrote.

        Raises:
            ValueError: no section with a `name`, or kernels that are none.
        """
        if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
            raise ValueError("backend: a section with the engine's 'name' is expected")
        names = {each.name for each in fields(cls)} - {"details"}
        own = {key: value for key, value in section.items() if key in names}
        for key in ("kernels", "kernel_precisions"):
            if not isinstance(own.get(key, {}), Mapping):
                raise ValueError(f"backend.{key}: a section is expected, got {shown(own[key])}")
        others = section.keys() - names - {"int8_kernels"}
        return cls(**own, details={key: section[key] for key in section if key in others})


@dataclass(frozen=True)
class RuntimeSpec:
    """A runtime as it is asked for.

    Attributes:
        engine: of `engines.table.ENGINES`.
        precision: on a CPU `fp32`, `bf16` or `int8`, on a GPU one of `GPU_PRECISIONS`.
        device: `cpu` or `gpu`.
        threads: CPU threads of all streams together; None means every available core.
        streams: runs at a time. 1 gives the shortest run, more of them the most images.
        pinned: whether each thread of the engine's own is bound to a core.
        tensorrt: None runs without TensorRT.
    """

    engine: str
    precision: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    streams: int = 1
    pinned: bool = False
    tensorrt: TensorRtOptions | None = None

    @classmethod
    def parse(cls, name: str, **settings: Any) -> "RuntimeSpec":
        """The runtime of a name: `openvino_int8`, `paddle_gpu_fp16`, `paddle_trt`.

        Args:
            name: an engine, then for a GPU `_gpu` (Paddle), `_cuda` (ONNX Runtime) or `_trt`, then
                the precision unless it is fp32.
            **settings: other fields, such as `threads`.

        Raises:
            UsageError: an unknown name (the nearest is named), or one that nothing can run.
        """
        if name in REFUSED:
            raise UsageError(f"{name}: {REFUSED[name]}")
        known = known_runtimes()
        check_choice("runtime", name, known)
        check_keys("runtime", settings, [field.name for field in fields(cls)])
        return replace(known[name], **settings)

    @property
    def name(self) -> str:
        """The name that `parse` reads; threads, streams and pinning are not part of it."""
        gpu = "_cuda" if self.engine == "onnxruntime" else "_gpu"
        place = "_trt" if self.tensorrt else gpu if self.device == "gpu" else ""
        suffix = "" if self.precision == "fp32" else f"_{self.precision}"
        return f"{self.engine}{place}{suffix}"

    def check(self) -> None:
        """Refuse a combination that cannot run here; imports no engine.

        Raises:
            UsageError: one line that says what to use instead.
        """
        from paddleseg_ext.inference.engines.table import ENGINES

        check_choice("engine", self.engine, ENGINES)
        check_choice("--precision", self.precision, PRECISIONS)
        check_choice("device", self.device, DEVICES)
        check_count("threads", self.threads, 1, MOST_THREADS, optional=True)
        check_count("streams", self.streams, 1)
        entry = ENGINES[self.engine]
        if self.streams > 1 and not entry.streams:
            others = " or ".join(name for name, other in ENGINES.items() if other.streams)
            raise UsageError(f"{self.engine} has one stream only; several streams need {others}")
        if self.pinned and not entry.pinning:
            raise UsageError(
                f"--cpu_affinity True: {self.engine} cannot bind its own threads alone; choose "
                "--backend onnxruntime or openvino (docs/performance.md)"
            )
        if entry.package == "paddle":
            self._check_paddle(entry.graphs)
        elif self.engine == "onnxruntime" and self.device == "gpu":
            self._check_onnxruntime_gpu()
        elif self.device not in entry.devices or self.precision not in entry.graphs:
            raise UsageError(
                f"{self.engine} runs on a CPU in {' or '.join(entry.graphs)}, "
                f"got {self.precision} on device {self.device}; use --backend paddle or "
                "onnxruntime_cuda for a GPU"
            )
        if reason := self.why_no_bf16():
            raise UsageError(f"{self.name}: {reason}; use --backend {self.engine}")

    def why_no_bf16(self) -> str:
        """Why this processor would be slower in bf16 than in fp32; empty where it would not."""
        if self.precision != "bf16" or has_bf16():
            return ""
        return f"bf16 needs a CPU with {' or '.join(BF16_FLAGS)}, which {cpu_name()} is not"

    def _check_paddle(self, cpu_precisions: Collection[str]) -> None:
        resolve_device(self.device)
        if self.tensorrt and self.device != "gpu":
            reason = "" if has_gpu_build() else ", and the installed PaddlePaddle is the CPU build"
            raise UsageError(f"--use_trt True needs --device gpu{reason}; use --use_trt False")
        if self.engine == "paddle_onednn" and self.device == "gpu":
            raise UsageError("--enable_mkldnn True is for --device cpu")
        if self.device == "cpu" and self.precision not in cpu_precisions:
            raise UsageError(
                f"--precision {self.precision}: on a CPU {self.engine} runs in "
                f"{' or '.join(cpu_precisions)}; use --precision fp32, --backend "
                "paddle_onednn_bf16, or a GPU"
            )
        if self.device == "gpu" and self.precision not in GPU_PRECISIONS:
            raise UsageError(
                f"--precision {self.precision} is for --device cpu; a GPU runs in "
                f"{', '.join(GPU_PRECISIONS)}"
            )
        if self.precision == "int8" and not self.tensorrt:
            raise UsageError("--precision int8 on a GPU needs --use_trt True")

    def _check_onnxruntime_gpu(self) -> None:
        from paddleseg_ext.inference.engines.onnx_providers import check_gpu

        if self.name not in known_runtimes():
            raise UsageError(
                f"{self.name}: ONNX Runtime on a GPU runs in fp32, and with TensorRT in fp16; use "
                "--backend onnxruntime_cuda or onnxruntime_trt_fp16"
            )
        check_gpu(self.name)

    def shortfall(self, report: RuntimeReport) -> str:
        """Why the engine runs otherwise than asked for; empty where it runs as asked."""
        from paddleseg_ext.inference.engines.table import ENGINES

        own_name = ENGINES[self.engine].own_name
        if report.name != own_name:
            return f"{self.engine} was asked for, and {report.name} runs"
        if self.engine in ("static", "eager"):
            return ""  # the framework's own runs, wherever Paddle computes
        if report.device != self.device:
            return f"device {self.device} was asked for, and it runs on {report.device}"
        if self.device == "gpu" and report.precision != self.precision:
            return f"{self.precision} was asked for, and it runs in {report.precision}"
        if self.tensorrt and not report.tensorrt_engines:
            return "TensorRT was asked for, and nothing of the graph is in an engine"
        if self.device == "cpu":
            fallen = self._shortfall_of_kernels(report)
            if fallen:
                return fallen
        if self.precision == "fp32":
            reduced = {k: n for k, n in report.kernel_precisions.items() if k in REDUCED}
            if reduced or report.precision != "fp32":
                seen = ", ".join(f"{count} {kind}" for kind, count in reduced.items())
                return f"fp32 was asked for, and {seen or report.precision} kernels run"
        if self.threads is not None and report.cpu_threads != self.threads:
            found = report.cpu_threads
            return f"{self.threads} threads were asked for, and the runtime has {found}"
        return ""

    def _shortfall_of_kernels(self, report: RuntimeReport) -> str:
        if report.name == "paddle_inference":
            if not report.onednn_visible:
                return "oneDNN's log cannot be read here, so its kernels are unknown"
            if self.engine == "paddle_onednn" and not report.kernels:
                return "oneDNN was asked for, and no oneDNN kernel ran"
            if self.engine == "paddle" and report.kernels:
                count = sum(report.kernels.values())
                return f"oneDNN was to be off, and {count} of its kernels ran"
        elif not report.kernels:
            return "the engine lists no kernel that ran"
        if self.precision != "fp32" and not report.kernel_precisions.get(self.precision):
            kind = self.precision.upper()
            return f"{kind} was asked for, and no {kind} kernel runs"
        return ""


def known_runtimes() -> dict[str, RuntimeSpec]:
    """Name -> runtime, of every engine in every precision and on every device that it has."""
    from paddleseg_ext.inference.engines.table import ENGINES

    specs = [RuntimeSpec(name, kind) for name, entry in ENGINES.items() for kind in entry.graphs]
    specs += [RuntimeSpec("paddle", kind, "gpu") for kind in ("fp32", "fp16")]
    specs += [
        RuntimeSpec("paddle", kind, "gpu", tensorrt=TensorRtOptions()) for kind in GPU_PRECISIONS
    ]
    specs.append(RuntimeSpec("onnxruntime", device="gpu"))
    specs += [
        RuntimeSpec("onnxruntime", kind, "gpu", tensorrt=TensorRtOptions())
        for kind in ("fp32", "fp16")
    ]
    return {spec.name: spec for spec in specs}
