"""Checks of the machines that workers run on."""

import re
from collections.abc import Iterable, Mapping

import cv2

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import warn

# From 4.8.1 on its WebP decoder is without CVE-2023-4863, a heap overflow that a file can cause.
SAFE_OPENCV = (4, 8, 1)


def warn_of_old_opencv() -> None:
    """Warn where OpenCV's decoders are not safe for files from strangers."""
    version = tuple(int(number) for number in re.findall(r"\d+", cv2.__version__)[:3])
    if version < SAFE_OPENCV:
        warn(
            f"OpenCV {cv2.__version__} decodes the images: its decoders have known holes, closed "
            "in 4.8.1; for images from strangers use an environment of requirements.txt "
            "(deploy/README.md)"
        )


def require_room_for(
    nodes: Iterable[Mapping[str, float]],
    workers: int,
    cpus: float,
    gpus: float,
    may_grow: bool,
) -> None:
    """Check that a cluster has room for the workers; otherwise Ray waits without a message.

    Args:
        nodes: resources of each node that is alive, by Ray's names.
        workers: number that is asked for; a warning says if fewer fit.
        cpus: per worker, on one node.
        gpus: per worker, on one node.
        may_grow: the cluster starts nodes on demand, so that no room is only a warning.

    Raises:
        UsageError: no node has room for a worker.
    """
    found = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
    fit = sum(_fit(cpu, gpu, cpus, gpus) for cpu, gpu in found)
    there = ", ".join(f"{cpu:g} CPUs and {gpu:g} GPUs" for cpu, gpu in sorted(set(found)))
    wanted = f"a worker wants {cpus:g} CPUs and {gpus:g} GPUs of one node, the nodes have {there}"
    if not fit and not may_grow:
        raise UsageError(
            f"{wanted}; lower --cpu_threads or --worker_gpus, or give --autoscaling True where the "
            "cluster starts nodes on demand"
        )
    if fit < workers:
        warn(f"{wanted}: {fit} of {workers} workers fit now")


def _fit(node_cpus: float, node_gpus: float, cpus: float, gpus: float) -> int:
    """Workers that fit on one node."""
    by_cpus = int(node_cpus / cpus)
    return min(by_cpus, int(node_gpus / gpus + 1e-6)) if gpus else by_cpus  # tenths are inexact
