"""Devices, cores and threads of this machine, without importing Paddle, which takes seconds."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, check_choice

GPU_DISTRIBUTION = "paddlepaddle-gpu"
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
STATUS_FILE = Path("/proc/self/status")
BF16_FLAGS = ("avx512_bf16", "amx_bf16")  # any of them makes bfloat16 fast
CAN_BIND = hasattr(os, "sched_setaffinity")  # macOS and Windows lack it
# As the process was given them (taskset, a scheduler). OpenMP may bind the thread that asks later.
STARTING_CORES = frozenset(os.sched_getaffinity(0) if CAN_BIND else range(os.cpu_count() or 1))


NO_GPU = "the installed PaddlePaddle is the CPU build"


def gpu_build_version() -> str:
    """The version of the installed CUDA build of PaddlePaddle; empty where it is the CPU build."""
    try:
        return metadata.version(GPU_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def has_gpu_build() -> bool:
    """Whether the installed PaddlePaddle is the CUDA build."""
    return bool(gpu_build_version())


def resolve_device(device: str | None) -> str:
    """`cpu` or `gpu`: what was asked for, or the better of what is installed.

    Raises:
        UsageError: neither of them, or a GPU where this PaddlePaddle is the CPU build.
    """
    if device is None:
        return "gpu" if has_gpu_build() else "cpu"
    check_choice("--device", device, ("cpu", "gpu"))
    if device == "gpu" and not has_gpu_build():
        raise UsageError(
            f"--device gpu: {NO_GPU}; install the GPU build (docs/gpu.md), or use --device cpu"
        )
    return device


def available_cores() -> int:
    """The number of CPU cores this process may use: by its affinity and its control group's quota.

    A container that is given 2 of 64 cores sees all of them, and threads on each would wait for one
    another. A quota is rounded down to whole cores, and is at least one.
    """
    cores = len(STARTING_CORES)
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def use_every_core() -> None:
    """Let the calling thread run on each core that the process was started with.

    A thread begins with the affinity of the one that makes it. Where OMP_PROC_BIND or KMP_AFFINITY
    is set, Paddle's OpenMP binds the thread that runs the network to one core, and every thread
    that this one makes afterwards would share it.
    """
    if CAN_BIND:
        os.sched_setaffinity(0, STARTING_CORES)


def cores_for(num_threads: int) -> list[int]:
    """A core for each of some threads of a network: the last ones, the first is the caller's.

    Empty where the system does not bind threads to cores.
    """
    if not CAN_BIND:
        return []
    cores = sorted(STARTING_CORES)
    return [cores[-1 - i % len(cores)] for i in range(num_threads)]


def cpu_quota(root: Path = CONTROL_GROUPS, groups: Path = OWN_GROUPS) -> float | None:
    """Cores that the control group of this process grants it; None where there is no limit.

    Read are the process's own group and those above it, in both versions of the kernel's interface.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (`cpu.max`), scheduler/sched-bwc.rst.
    """
    limits = []
    for base, own in _group_folders(root, groups):
        folder = base / own.lstrip("/")
        # In a container the group's name is the host's and leads nowhere; its root is its own.
        for place in {base, folder, *(p for p in folder.parents if p.is_relative_to(base))}:
            limits.append(_quota_in(place))
    return min((limit for limit in limits if limit is not None), default=None)


def _group_folders(root: Path, groups: Path) -> list[tuple[Path, str]]:
    """Where the CPU limits are mounted, and the name of this process's group there."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            found.append((root, name))
        elif "cpu" in controllers.split(","):
            found += [(root / mount, name) for mount in ("cpu", controllers)]
    return found


def _quota_in(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip()
                for name in ("quota", "period")
            )
        return float(quota) / float(period) if quota != "max" and float(quota) > 0 else None
    except (OSError, ValueError):
        return None


def peak_memory_mb() -> float:
    """The most memory that this process has had; 0 where the system does not say (Windows)."""
    try:
        lines = STATUS_FILE.read_text(encoding="ascii").splitlines()
        # `ru_maxrss` would be that of the parent where it was larger.
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024  # macOS counts bytes


def cpu_name() -> str:
    """The processor's own name, for records; `unknown` where the system has none."""
    return _cpu_info("model name") or platform.processor() or "unknown"


def has_avx512() -> bool:
    """Whether the processor has AVX-512; False where the system does not say."""
    return "avx512f" in cpu_flags()


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16; True where the system does not say."""
    known = cpu_flags()
    return not known or not known.isdisjoint(BF16_FLAGS)


def cpu_flags() -> frozenset[str]:
    """The processor's abilities by the kernel's names; empty where the system does not say."""
    return frozenset((_cpu_info("flags") or _cpu_info("Features")).split())  # x86 or arm64


def _cpu_info(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith(field):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def fix_thread_count(threads: int | None = None) -> int:
    """Set how many threads CPU kernels use; must come before Paddle is imported.

    Sums are split by thread, so results repeat to the bit only for equal thread counts. The
    environment's OMP_NUM_THREADS is respected; else every available core is used, or this
    process's share of them where a launcher has started several on this machine.
    """
    if threads is None:
        processes = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
        share = max(1, available_cores() // processes)
        threads = _threads_of_environment() or share
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    return threads


def _threads_of_environment() -> int:
    """The first number of OMP_NUM_THREADS, which may be a list, one for each level; 0: not set.

    Raises:
        UsageError: something else.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").strip()
    first = text.partition(",")[0].strip()
    if text and not (first.isdecimal() and int(first) > 0):
        raise UsageError(f"OMP_NUM_THREADS={text}: a whole number of at least 1 is expected")
    return int(first or 0)


def let_waiting_threads_sleep() -> None:
    """Keep CPU kernels' idle threads from spinning; must come before Paddle is imported.

    While training, a thread reads the next batch beside the kernels; spinning takes its core. On
    two cores an iteration of BiSeNetV1 takes 1.6 times as long with it. Inference has no such
    thread and is left as it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
