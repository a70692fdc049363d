"""Real-time segmentation networks of the BiSeNet family, from training to a proven deployment.

The names below are loaded when they are used: `import paddleseg_ext` loads neither NumPy, OpenCV,
PyYAML nor Paddle. Everything else is imported from its room (docs/design.md, docs/python.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.version import __version__

if TYPE_CHECKING:
    from paddleseg_ext.inference.predictor import Predictor, Segmentation
    from paddleseg_ext.inference.runtime import RuntimeSpec

__all__ = ["Predictor", "RuntimeSpec", "Segmentation", "__version__"]
_MODULES = {"Predictor": "predictor", "Segmentation": "predictor", "RuntimeSpec": "runtime"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'paddleseg_ext' has no attribute '{name}'")
    return getattr(import_module(f"paddleseg_ext.inference.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
