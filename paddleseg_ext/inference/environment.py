"""The machine's description for a fault report: versions, processor, engines."""

import os
import platform
from importlib import metadata

from paddleseg_ext.common import machine
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.common.version import __version__
from paddleseg_ext.inference.engines.table import ENGINES

# Flags of the processor that decide how fast a precision is.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
PACKAGES = (
    "paddlepaddle",
    "paddlepaddle-gpu",
    "paddleseg",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "pillow",
    "pandas",
    "visualdl",
    "onnx",
    "paddle2onnx",
    "numba",
    "fastapi",
    "ray",
)
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_AFFINITY", "CUDA_VISIBLE_DEVICES")


def environment_lines() -> list[str]:
    """One paste for a report: `name  value` lines; nothing is imported to find them out."""
    known = machine.cpu_flags()
    flags = [flag for flag in CPU_FLAGS if flag in known] if known else ["flags unknown"]
    rows = [
        ("paddleseg_ext", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", f"{platform.platform()}, {platform.machine()}"),
        ("processor", f"{machine.cpu_name()}; {' '.join(flags) or 'none of the flags asked for'}"),
        ("cores", f"{machine.available_cores()} usable of {os.cpu_count()}"),
        *((name, version) for name in PACKAGES if (version := _version(name))),
    ]
    for name, entry in ENGINES.items():
        found = entry.installed_version or "installed"
        missing = f"not installed ({how_to_install(entry.extra)})"
        rows.append((f"engine {name}", found if entry.is_installed else missing))
    rows += [(name, value) for name in VARIABLES if (value := os.environ.get(name))]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def package_versions() -> dict[str, str]:
    """Versions of this package, Python and the installed packages that compute with it."""
    found = {name: version for name in PACKAGES if (version := _version(name))}
    return {"paddleseg_ext": __version__, "Python": platform.python_version(), **found}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
