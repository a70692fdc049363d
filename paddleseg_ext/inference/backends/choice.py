"""Which backend `--backend auto` takes: the fastest that is installed and gave the right answer.

What gave the right answer, and how fast, is recorded in the bundle (`Manifest.verified`, written by
`python -m paddleseg_ext tune`). Nothing is guessed: without a record it is Paddle Inference.
"""

from importlib.util import find_spec

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.backends.open import BACKENDS, stage_name
from paddleseg_ext.inference.bundle import Bundle

ONNX_BACKENDS = ("onnxruntime", "openvino")


def is_installed(name: str) -> bool:
    """Whether the package of a backend is there; it is not imported."""
    return find_spec(name if name in ONNX_BACKENDS else "paddle") is not None


def choose_backend(bundle: Bundle, precision: str = "fp32") -> tuple[str, str]:
    """A name for `open_backend`, and why it was chosen.

    Raises:
        UsageError: the bundle needs a package that is not installed.
    """
    verified = bundle.manifest.verified if bundle.manifest else {}
    passed = {
        name: verified[stage_name(name, precision)]
        for name in BACKENDS
        if verified.get(stage_name(name, precision), {}).get("passed")
    }
    usable = {name: found for name, found in passed.items() if is_installed(name)}
    if usable:
        name = max(usable, key=lambda name: usable[name].get("ratio") or 0.0)
        ratio = usable[name].get("ratio")
        speed = f", {ratio:.2f} times as fast as paddle" if ratio else ""
        missing = [other for other in passed if other not in usable]
        note = f"; not installed: {', '.join(missing)}" if missing else ""
        return name, f"verified ({usable[name].get('grade')}{speed}){note}"
    if not bundle.is_onnx and precision == "fp32":
        return "paddle", "no other is verified for this bundle (python -m paddleseg_ext tune)"
    bundle.onnx_file(precision)  # says how to make it, where there is none
    for name in ONNX_BACKENDS:
        if is_installed(name):
            return name, "not verified; the first that is installed for an ONNX graph"
    raise UsageError(
        f"{bundle.deploy_file}: its {precision} graph is ONNX, and neither ONNX Runtime nor "
        "OpenVINO is installed: pip install -r requirements-onnxruntime.txt"
    )
