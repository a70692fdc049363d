"""A network without its last step, where that enlarges the logits to the image's size.

Enlarging is left to post-processing then, which interpolates only where classes meet. The graph's
output is smaller by the square of the stride: less to compute, and less to copy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError

PROBED_SHAPE = (1, 3, 128, 192)


class LastEnlargement:
    """Watches a network's interpolations: what went in, for what came out."""

    def __init__(self) -> None:
        self._calls: list[tuple[Tensor, Tensor, str]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what goes through `F.interpolate`, whatever that is at the moment."""
        inner = F.interpolate

        def noting(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            result = inner(x, *args, **kwargs)
            self._calls.append((result, x, _kind(*args, **kwargs)))
            return result

        F.interpolate = noting
        try:
            yield
        finally:
            F.interpolate = inner

    def before(self, logits: Tensor) -> tuple[Tensor, str] | None:
        """What became `logits`, and how: `half_pixel` or `aligned`; None where neither did."""
        for result, source, kind in reversed(self._calls):
            if result is logits:
                return (source, kind) if kind else None
        return None


def _kind(
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool = False,
    align_mode: int = 0,
    *rest: Any,
    **more: Any,
) -> str:
    if mode.lower() != "bilinear" or (align_mode == 1 and not align_corners):
        return ""
    return "aligned" if align_corners else "half_pixel"


def upsampling_of(model: nn.Layer) -> str:
    """How the network's main logits get to the image's size, `half_pixel` or `aligned`.

    Raises:
        UsageError: not by a bilinear interpolation, or they have another size.
    """
    watch = LastEnlargement()
    model.eval()
    with paddle.no_grad(), watch.watching():
        logits = model(paddle.zeros(PROBED_SHAPE))[0]
    found = watch.before(logits)
    if found is None or list(logits.shape[2:]) != list(PROBED_SHAPE[2:]):
        raise UsageError(
            f"--upsample host: {type(model).__name__} does not end in a bilinear interpolation to "
            "the image's size; use --upsample graph"
        )
    return found[1]


class NativeOutput(nn.Layer):
    """Gives a network's main logits as they are before they are enlarged."""

    def __init__(self, model: nn.Layer):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        watch = LastEnlargement()
        with watch.watching():
            logits = self.model(images)[0]
        found = watch.before(logits)
        assert found is not None, "upsampling_of() was not asked first"
        return [found[0]]
