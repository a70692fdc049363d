"""Real-time segmentation networks of the BiSeNet family, from training to a proven deployment.

The names below are loaded when they are used: `import paddleseg_ext` loads neither NumPy, OpenCV,
PyYAML nor Paddle. Everything else is imported from its room (docs/design.md).
"""

from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.version import __version__

if TYPE_CHECKING:
    from paddleseg_ext.inference.predictor import Predictor, Segmentation
    from paddleseg_ext.inference.runtime import RuntimeSpec

__all__ = ["Predictor", "RuntimeSpec", "Segmentation", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Predictor", "Segmentation"):
        from paddleseg_ext.inference import predictor

        return getattr(predictor, name)
    if name == "RuntimeSpec":
        from paddleseg_ext.inference.runtime import RuntimeSpec

        return RuntimeSpec
    raise AttributeError(f"module 'paddleseg_ext' has no attribute '{name}'")
