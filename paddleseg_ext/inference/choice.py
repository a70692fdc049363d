"""Which backend `--backend auto` takes: the fastest that is installed and gave the right answer.

What gave the right answer, and how fast, is recorded in the bundle (`Manifest.verified`, written by
`tune`, `quantize` and `parity`), with the CPU and the version of the backend: a record of others
says nothing here. Nothing is guessed: without a record it is Paddle Inference.
"""

import re
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.open import BACKENDS, ONNX_PRECISIONS, stage_name

ONNX_BACKENDS = ("onnxruntime", "openvino")
PACKAGES = {  # whose version is that of a backend, the first that is installed
    "paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "paddle_onednn": ("paddlepaddle", "paddlepaddle-gpu"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
}
TOLD_NEW_SIZE_S = 0.05  # less of a new input size is not worth a word


def is_installed(name: str) -> bool:
    """Whether the package of a backend is there; it is not imported."""
    return find_spec(name if name in ONNX_BACKENDS else "paddle") is not None


def installed_version(name: str) -> str | None:
    """Version of a backend's package, without what a build adds; None where nobody tells."""
    for package in PACKAGES[name]:
        try:
            return _release(metadata.version(package))
        except metadata.PackageNotFoundError:
            continue
    return None


def _release(version: str) -> str:
    return re.split(r"\.post|[+-]", version)[0]


def found_elsewhere(found: Mapping[str, Any], name: str) -> str:
    """Why a record of `Manifest.verified` does not hold here; empty where it does."""
    cpu, version = cpu_name(), installed_version(name)
    if found.get("cpu", cpu) != cpu:
        return f"recorded on another CPU, {found['cpu']}"
    if version and _release(str(found.get("version", version))) != version:
        return f"recorded of version {found['version']}, installed is {version}"
    return ""


def choose_backend(bundle: Bundle, precision: str = "fp32") -> tuple[str, str]:
    """A name for `open_backend` on a CPU, and why it was chosen.

    Raises:
        UsageError: a precision that only a GPU has, the bundle needs a package that is not
            installed, or what could run it gave wrong answers.
    """
    if precision not in ONNX_PRECISIONS:
        raise UsageError(
            f"--precision {precision} needs --device gpu; a CPU runs {' or '.join(ONNX_PRECISIONS)}"
        )
    verified = bundle.manifest.verified if bundle.manifest else {}
    usable: dict[str, Mapping[str, Any]] = {}
    failed, notes = [], []
    for name in BACKENDS:
        found = verified.get(stage_name(name, precision))
        if found is None:
            continue
        elsewhere = found_elsewhere(found, name)
        if not is_installed(name):
            notes += [f"not installed: {name}"] if found.get("passed") else []
        elif elsewhere:
            notes.append(f"{name}: {elsewhere}")
        elif found.get("passed"):
            usable[name] = found
        else:
            failed.append(name)
    note = "".join(f"; {each}" for each in notes)
    if usable:
        name = max(usable, key=lambda name: usable[name].get("ratio") or 0.0)
        return name, _praise(usable[name]) + note
    if not bundle.is_onnx and precision == "fp32" and is_installed("paddle"):
        possible = ["paddle"]
        why = "no other is verified here (paddleseg-ext tune)"
    else:
        bundle.onnx_file(precision)  # says how to make it, where there is none
        possible = [name for name in ONNX_BACKENDS if is_installed(name)]
        why = "not verified here; the first that is installed for an ONNX graph"
    if not possible:
        raise UsageError(
            f"{bundle.deploy_file}: its {precision} graph is ONNX, and neither ONNX Runtime nor "
            f"OpenVINO is installed: {how_to_install('onnxruntime')}"
        )
    for name in possible:
        if name not in failed:
            return name, why + note
    raise UsageError(
        f"{bundle.deploy_file}: recorded as failed in {precision} on this machine: "
        f"{', '.join(failed)}; --backend {possible[0]} runs it all the same"
    )


def _praise(found: Mapping[str, Any]) -> str:
    ratio, new_size_s = found.get("ratio"), found.get("new_size_s") or 0.0
    speed = f", {ratio:.2f} times as fast as paddle" if ratio else ""
    told = f"verified ({found.get('grade')}{speed})"
    if new_size_s >= TOLD_NEW_SIZE_S:
        told += f"; a new input size takes {new_size_s:.2f} s more"
    return told
