"""What this machine can do, asked without importing Paddle (a cold import takes seconds)."""

import os
import platform
from importlib import metadata

from paddleseg_ext.common.errors import UsageError

GPU_DISTRIBUTION = "paddlepaddle-gpu"


def has_gpu_build() -> bool:
    """Whether the installed PaddlePaddle is the CUDA build."""
    try:
        metadata.version(GPU_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return False
    return True


def resolve_device(device: str | None) -> str:
    """`cpu` or `gpu`: what was asked for, or the better of what is installed.

    Raises:
        UsageError: a GPU was asked for and this PaddlePaddle is the CPU build.
    """
    if device is None:
        return "gpu" if has_gpu_build() else "cpu"
    if device == "gpu" and not has_gpu_build():
        raise UsageError(
            "--device gpu: the installed PaddlePaddle is the CPU build; "
            "install requirements-gpu.txt, or use --device cpu"
        )
    return device


def available_cores() -> int:
    """The number of CPU cores this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """The processor's own name, for records; `unknown` where the system does not tell it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def fix_thread_count(threads: int | None = None) -> int:
    """Set how many threads CPU kernels use; must come before Paddle is imported.

    Sums are split by thread, so results repeat to the bit only for equal thread counts. The
    environment's OMP_NUM_THREADS is respected; else every available core is used, or this
    process's share of them where a launcher has started several on this machine.
    """
    if threads is None:
        processes = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
        share = max(1, available_cores() // processes)
        threads = int(os.environ.get("OMP_NUM_THREADS") or share)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    return threads


def let_waiting_threads_sleep() -> None:
    """Keep CPU kernels' idle threads from spinning; must come before Paddle is imported.

    While training, a thread reads the next batch beside the kernels; spinning takes its core. On
    two cores an iteration of BiSeNetV1 takes 1.6 times as long with it. Inference has no such
    thread and is left as it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
