"""Flags that describe a runtime, PaddleSeg's by name, and the `RuntimeSpec` that they mean."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.flags import number_parser
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.options import option, refuse_idle
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.table import DEPLOYED, ENGINES
from paddleseg_ext.inference.runtime import (
    AUTO,
    MIN_SUBGRAPH,
    MOST_THREADS,
    PRECISIONS,
    RuntimeSpec,
    TensorRtOptions,
    known_runtimes,
)

NAMES = tuple(name for name, spec in known_runtimes().items() if spec.engine in DEPLOYED)


TENSORRT = "TensorRT: --use_trt True, or a backend of its name"

MOST_STREAMS = 8  # unless asked: each holds a batch, and in MNN the network

thread_count = number_parser(int, {"at least": 1, "at most": MOST_THREADS})


@dataclass(frozen=True)
class RuntimeFlags:
    """The flags; `runtime_of` makes a `RuntimeSpec` of them."""

    backend: str = option(
        AUTO,
        f"runtime of the network: {', '.join(NAMES)}; those of other engines than Paddle need "
        "their graph in the bundle (export --onnx, --mnn, --ncnn). auto takes the fastest that the "
        "bundle records as right",
        choices=(AUTO, *NAMES),
        metavar="NAME",
    )
    device: Literal["cpu", "gpu"] | None = option(
        None, "where to run (default: gpu where Paddle is built with CUDA and one is there)"
    )
    precision: str | None = option(
        None,
        "fp32 (default), bf16, int8 or fp16; part of some names of --backend. bf16 is for CPUs "
        "with avx512_bf16 or AMX; int8 needs a bundle that `quantize` wrote, or "
        "TensorRT; fp16 a GPU",
        choices=PRECISIONS,
    )
    enable_mkldnn: bool | None = option(
        None, "oneDNN, for --backend paddle on a CPU (default: False)"
    )
    use_trt: bool = option(False, "TensorRT; needs a GPU")
    min_subgraph_size: int = option(
        MIN_SUBGRAPH,
        "smaller parts of the graph are not given to TensorRT",
        at_least=1,
        needs=TENSORRT,
    )
    trt_cache_dir: Path | None = option(
        None,
        "folder of TensorRT's engines (default: tensorrt, beside the bundle)",
        metavar="DIR",
        needs=TENSORRT,
    )
    cpu_threads: int | None = option(
        None, "threads of a run (default: OMP_NUM_THREADS, else every core)", parse=thread_count
    )
    streams: int | None = option(
        None,
        "batches that run at a time, not for Paddle: 1 gives the shortest run, one per core the "
        "most images (default: 1; infer of several images in mnn or ncnn one per core, at most "
        f"{MOST_STREAMS})",
        at_least=1,
    )
    cpu_affinity: bool = option(
        False,
        "bind each thread of onnxruntime or openvino to a core: for a machine that does nothing "
        "else (docs/performance.md)",
    )


def asked_runtime(flags: RuntimeFlags) -> RuntimeSpec | None:
    """The runtime that the flags name; None where `auto` is to choose. Sets the thread count.

    Raises:
        UsageError: flags that contradict each other, or that cannot run here.
    """
    device, threads = resolve_device(flags.device), fix_thread_count(flags.cpu_threads)
    if flags.backend == AUTO and not _is_for_paddle(flags, device):
        refuse_idle(flags, {TENSORRT: False})
        return None
    spec = named_runtime(flags, device, threads)
    spec.check()
    return spec


def named_runtime(flags: RuntimeFlags, device: str, threads: int) -> RuntimeSpec:
    """The runtime that the flags name, on any machine; `RuntimeSpec.check` asks this one.

    Args:
        flags: `auto` means Paddle.
        device: `cpu` or `gpu`, instead of the flags'.
        threads: likewise.

    Raises:
        UsageError: flags that contradict each other.
    """
    named = RuntimeSpec.parse("paddle" if flags.backend == AUTO else flags.backend)
    on_gpu = named.engine == "onnxruntime" and named.device == "gpu"
    if on_gpu and (flags.device == "cpu" or flags.use_trt or flags.enable_mkldnn is not None):
        raise UsageError(
            f"--backend {flags.backend} names the GPU and TensorRT itself; leave out --device cpu, "
            "--use_trt and --enable_mkldnn"
        )
    package = ENGINES[named.engine].package
    if package != "paddle" and not on_gpu and _is_for_paddle(flags, device):
        raise UsageError(
            f"--backend {flags.backend} runs on a CPU and has no --enable_mkldnn or --use_trt; "
            "leave these out and give --device cpu, or use --backend paddle"
        )
    if flags.precision and named.precision not in ("fp32", flags.precision):
        raise UsageError(f"--backend {flags.backend} and --precision {flags.precision} differ")
    if flags.enable_mkldnn is False and named.engine == "paddle_onednn":
        raise UsageError(
            "--backend paddle_onednn and --enable_mkldnn False contradict each other; without "
            "oneDNN it is --backend paddle"
        )
    uses_trt = flags.use_trt or named.tensorrt is not None
    refuse_idle(flags, {TENSORRT: uses_trt})
    return replace(
        named,
        engine="paddle_onednn" if flags.enable_mkldnn else named.engine,
        precision=flags.precision or named.precision,
        device="gpu" if named.device == "gpu" else device,
        threads=threads,
        streams=flags.streams or 1,
        pinned=flags.cpu_affinity,
        tensorrt=TensorRtOptions(None, flags.min_subgraph_size, flags.trt_cache_dir)
        if uses_trt
        else None,
    )


def _is_for_paddle(flags: RuntimeFlags, device: str) -> bool:
    return device == "gpu" or flags.use_trt or flags.enable_mkldnn is not None


def runtime_of(flags: RuntimeFlags, bundle: Bundle, prefix: str = "") -> RuntimeSpec:
    """The runtime that the flags name, or the one that `auto` chooses, with its reason logged.

    One that is named and recorded as failed is taken, with a warning.

    Args:
        flags: of the command.
        bundle: its records decide for `auto`.
        prefix: opens the log line.

    Raises:
        UsageError: see `asked_runtime` and `choose_runtime`.
    """
    asked = asked_runtime(flags)
    if asked is not None:
        found = bundle.verified.get(asked.name)
        if found is not None and not found.passed and not found.foreign_version(asked.engine):
            where = f"{prefix}{bundle.deploy_file}"
            warn(f"{where}: {asked.name} is recorded as failed by {found.command}")
        return asked
    chosen, reason = choose_runtime(bundle, flags.precision or "fp32")
    log(f"{prefix}backend {chosen.name}: {reason}")
    spec = replace(
        chosen,
        threads=fix_thread_count(flags.cpu_threads),
        streams=flags.streams or 1,
        pinned=flags.cpu_affinity,
    )
    spec.check()
    return spec


def for_many_images(spec: RuntimeSpec, num_batches: int) -> RuntimeSpec:
    """The runtime with one stream per thread, if several images run faster that way.

    In MNN and ncnn one run per thread is faster than one run on all threads; in OpenVINO it is not
    (docs/results/speed.md).

    Args:
        spec: with the number of its threads.
        num_batches: no more streams than these are made.
    """
    if not ENGINES[spec.engine].slow_sharing:
        return spec
    return replace(spec, streams=max(1, min(spec.threads or 1, num_batches, MOST_STREAMS)))
