"""The runtime that `--backend auto` takes: the fastest whose verdict the bundle records as passed.

A verdict (`verified.Verified`) holds for the same release of the engine, on any CPU. A speed holds
on the CPU where it was measured.
"""

from collections.abc import Mapping

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.table import ENGINES, ONNX_ENGINES
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.verified import Verified

# Where no measured speed decides, the first of these whose verdict is known.
ORDER = ("onnxruntime", "openvino", "ncnn", "mnn", "paddle_onednn", "paddle")
# Speeds closer than this are equal: `ORDER` decides.
EQUAL_SPEED = 0.1
CPU_PRECISIONS = ("fp32", "bf16", "int8")


def choose_runtime(bundle: Bundle, precision: str = "fp32") -> tuple[RuntimeSpec, str]:
    """The runtime of `--backend auto` on a CPU, and why it was chosen.

    The fastest whose verdict is known and passed; nothing is guessed. Without a record it is Paddle
    Inference, or for an ONNX graph the first engine that is installed.

    Raises:
        UsageError: a precision that only a GPU has, the bundle needs a package that is not
            installed, or every engine that could run it gave wrong answers.
    """
    if precision not in CPU_PRECISIONS:
        raise UsageError(
            f"--precision {precision} needs --device gpu; a CPU runs {', '.join(CPU_PRECISIONS)}"
        )
    usable: dict[str, Verified] = {}
    failed, notes = [], []
    for engine in _able(precision):
        spec = RuntimeSpec(engine, precision)
        found = bundle.verified.get(spec.name)
        if found is None:
            continue
        foreign = found.foreign_version(engine)
        if not ENGINES[engine].is_installed:
            notes += [f"not installed: {engine}"] if found.passed else []
        elif foreign:
            notes.append(f"{engine}: {foreign}")
        elif found.passed:
            usable[engine] = found
        else:
            failed.append(engine)
    note = "".join(f"; {each}" for each in notes) + _faster(bundle, usable, precision)
    if usable:
        engine = _fastest(usable)
        return RuntimeSpec(engine, precision), usable[engine].praise() + note
    engine, why = _unverified(bundle, precision, failed)
    return RuntimeSpec(engine, precision), why + note


def _able(precision: str) -> list[str]:
    """Engines that compute in a precision, in their order."""
    return [engine for engine in ORDER if precision in ENGINES[engine].graphs]


def _fastest(usable: Mapping[str, Verified]) -> str:
    """The one that `tune` preferred here, else the first in `ORDER` of the fastest ones.

    `tune` compares round by round, and keeps what it took before where the fastest is no faster.
    """
    for engine, found in usable.items():
        if found.preferred and found.is_of_this_cpu:
            return engine
    best = max((found.speed or 0.0) for found in usable.values())
    return next(
        engine
        for engine, found in usable.items()
        if not best or (found.speed or 0.0) >= best * (1 - EQUAL_SPEED)
    )


def _unverified(bundle: Bundle, precision: str, failed: list[str]) -> tuple[str, str]:
    if not bundle.is_onnx and precision == "fp32" and ENGINES["paddle"].is_installed:
        possible = ["paddle"]
        why = "no other is verified here (paddleseg-ext tune)"
    elif precision == "bf16" and not bundle.has_onnx:
        possible = ["paddle_onednn"] if ENGINES["paddle"].is_installed else []
        why = "not verified here; the bundle has no ONNX graph"
    else:
        bundle.onnx_file(precision)  # names the command that makes it, where there is none
        possible = [n for n in _able(precision) if n in ONNX_ENGINES and ENGINES[n].is_installed]
        why = "not verified here; the first that is installed for an ONNX graph"
    if not possible:
        raise UsageError(
            f"{bundle.deploy_file}: its {precision} graph is ONNX, and neither ONNX Runtime nor "
            f"OpenVINO is installed: {how_to_install('onnxruntime')}"
        )
    wrong = f"recorded as failed in {precision}: {', '.join(failed)}"
    for engine in possible:
        if engine not in failed:
            return engine, f"{why}; {wrong}" if failed else why
    raise UsageError(f"{bundle.deploy_file}: {wrong}; --backend {possible[0]} runs it all the same")


def _faster(bundle: Bundle, usable: Mapping[str, Verified], precision: str) -> str:
    """Runtimes of a lower precision that passed and are faster, for the log."""
    best = max(((found.speed or 0.0) for found in usable.values()), default=0.0)
    faster = [
        f"{name} ({found.grade}, {found.speed:.2f} times)"
        for name, found in bundle.verified.items()
        if precision == "fp32" and name.endswith(("_bf16", "_int8")) and found.passed
        if found.speed is not None and found.speed > best
    ]
    return f"; faster, if you name it: {', '.join(faster)}" if faster else ""
