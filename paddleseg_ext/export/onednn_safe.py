"""Operators that Paddle Inference computes wrongly, most under oneDNN, replaced while tracing.

Networks, ours and PaddleSeg's, keep the operators that they were published with. The replacements
compute the same in operations that oneDNN gets right, from the sizes inside the graph, so that any
input size works.

Bilinear interpolation with `align_corners=True`: Paddle 3.0 to 3.2 ignore the option under oneDNN,
which is on by default on CPU, without a message; BiSeNetV1 changes class at 3.5% of the pixels. It
becomes two matrix products with interpolation matrices.

Nearest interpolation by a factor that is not whole: oneDNN takes the source pixel whose centre is
nearest, Paddle the one at floor(i * in / out). STDC-Seg's logits are off by 0.4 at 109x75. It
becomes a gather of rows and columns.

Adaptive average pooling to several cells (PP-LiteSeg's context module): oneDNN keeps the windows of
the first input size. 4x4 cells of a 200x300 image after a 256x512 one are off by 0.4 of the
largest, and features of a few pixels after more of them end in `std::exception`. It becomes matrix
products, which converters to ONNX take at any size, too.

Batch norm of `(N, C)`: where it is of parameters alone (PaddleSeg's GINet, of its class nodes),
Paddle's folding of constants fails, and the graph cannot be loaded. It becomes arithmetic.

Deleting fuse passes or switching to the new IR does not help; `grid_sample` is right but slower.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.nn.layer import norm as norm_layers

_interpolate, _adaptive_avg_pool2d = F.interpolate, F.adaptive_avg_pool2d
_batch_norm = F.batch_norm
LARGEST_DENOMINATOR = 1000  # of a scale factor; 1.3 is written as 13 / 10


@contextmanager
def traced_operators() -> Iterator[None]:
    """Replaces the operators while a graph is traced, by changing a module of Paddle.

    Not for eager use. Layers such as `nn.Upsample` and PaddleSeg's networks look the functions up
    when they run, so one replacement reaches all of them; Paddle's norm layers look in their own
    module.
    """
    F.interpolate, F.adaptive_avg_pool2d = _interpolate_exactly, _pool_exactly
    norm_layers.batch_norm = _norm_foldably
    try:
        yield
    finally:
        F.interpolate, F.adaptive_avg_pool2d = _interpolate, _adaptive_avg_pool2d
        norm_layers.batch_norm = _batch_norm


def _interpolate_exactly(
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool = False,
    align_mode: int = 0,
    data_format: str = "NCHW",
    **rest: Any,
) -> Tensor:
    # align_mode 1 (source i * in / out, TensorFlow 1's) is ignored as align_corners is.
    wrong_bilinear = mode.lower() == "bilinear" and (align_corners or align_mode == 1)
    wrong_nearest = mode.lower() == "nearest" and not align_corners
    if data_format != "NCHW" or len(x.shape) != 4 or not (wrong_bilinear or wrong_nearest):
        return _interpolate(
            x, size, scale_factor, mode, align_corners, align_mode, data_format, **rest
        )
    in_height, in_width = paddle.shape(x)[2], paddle.shape(x)[3]
    if size is not None:
        out_height, out_width = _as_scalars(size)
    else:
        factors = scale_factor if isinstance(scale_factor, list | tuple) else (scale_factor,) * 2
        # Written out: Paddle 2.6 cannot trace a `zip` that is strict.
        out_height = _scaled_side(in_height, factors[0])
        out_width = _scaled_side(in_width, factors[1])
    # A single pixel (a pooled map) is repeated; oneDNN's product of such thin matrices is wrong.
    fixed_sides = [side for side in x.shape[2:] if isinstance(side, int)]
    if wrong_nearest or fixed_sides == [1, 1]:
        x = paddle.index_select(x, nearest_sources(in_height, out_height), axis=2)
        return paddle.index_select(x, nearest_sources(in_width, out_width), axis=3)
    return _resample(
        x,
        interpolation_matrix(in_height, out_height, align_corners),
        interpolation_matrix(in_width, out_width, align_corners),
        (out_height, out_width),
    )


def _pool_exactly(x: Tensor, output_size: Any, data_format: str = "NCHW", **rest: Any) -> Tensor:
    cells = output_size if isinstance(output_size, list | tuple) else (output_size,) * 2
    if data_format != "NCHW" or None in cells or tuple(cells) == (1, 1):
        return _adaptive_avg_pool2d(x, output_size, data_format, **rest)
    height, width = _as_scalars(cells)
    return _resample(
        x,
        pooling_matrix(paddle.shape(x)[2], height),
        pooling_matrix(paddle.shape(x)[3], width),
        tuple(cells),
    )


def _norm_foldably(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    **rest: Any,
) -> Tensor:
    if len(x.shape) != 2:
        return _batch_norm(x, mean, variance, weight, bias, epsilon=epsilon, **rest)
    x = (x - mean) * paddle.rsqrt(variance + epsilon)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _resample(x: Tensor, vertical: Tensor, horizontal: Tensor, out_size: Any) -> Tensor:
    """`(N, C, h, w)` times the `(H, h)` and `(W, w)` matrices of its sides: `(N, C, H, W)`."""
    in_height, in_width = paddle.shape(x)[2], paddle.shape(x)[3]
    # The reshape matters beyond its result: a matrix product that takes a convolution's output
    # directly reads oneDNN's blocked layout as if it were plain.
    rows = paddle.reshape(x, [-1, in_width])  # (N*C*h, w)
    rows = paddle.matmul(rows, horizontal, transpose_y=True)
    planes = paddle.reshape(rows, [-1, in_height, out_size[1]])  # (N*C, h, W)
    planes = paddle.matmul(vertical, planes)  # (N*C, H, W)
    return paddle.reshape(planes, [-1, x.shape[1], *out_size])


# The operators that `_resample` becomes, from last to first, and which operand holds the map.
RESAMPLING = (("reshape", 0), ("matmul", 1), ("reshape", 0), ("matmul", 0), ("reshape", 0))


def _scaled_side(side: Tensor, factor: float) -> Tensor:
    """`floor(side * factor)` in whole numbers: in float32, oneDNN's comes out one less."""
    ratio = Fraction(factor).limit_denominator(LARGEST_DENOMINATOR)
    return side * ratio.numerator // ratio.denominator


def _as_scalars(size: Any) -> Sequence[Tensor]:
    sides = size if isinstance(size, list | tuple) else (size[0], size[1])
    return [
        paddle.full([], side, "int32")
        if isinstance(side, int)
        else paddle.reshape(side, []).astype("int32")
        for side in sides
    ]


def nearest_sources(in_size: Tensor, out_size: Tensor) -> Tensor:
    """The row that each row of a nearest interpolation reads, `(out,)` int32, rounded as Paddle."""
    ratio = in_size.astype("float32") / out_size.astype("float32")
    positions = paddle.arange(0, out_size, 1, dtype="int32").astype("float32") * ratio
    return paddle.minimum(paddle.floor(positions).astype("int32"), (in_size - 1).astype("int32"))


def interpolation_matrix(in_size: Tensor, out_size: Tensor, align_corners: bool = True) -> Tensor:
    """The `(out, in)` float32 matrix of linear interpolation.

    Row i is a hat of width one around the source position, `i * (in - 1) / (out - 1)` with aligned
    corners, else `i * in / out`, at most the last one.
    """
    if align_corners:
        step = (in_size - 1).astype("float32") / paddle.clip(out_size - 1, min=1).astype("float32")
    else:
        step = in_size.astype("float32") / out_size.astype("float32")
    positions = paddle.arange(0, out_size, 1, dtype="int32").astype("float32") * step
    positions = paddle.minimum(positions, (in_size - 1).astype("float32"))
    sources = paddle.arange(0, in_size, 1, dtype="int32").astype("float32")
    return F.relu(1.0 - paddle.abs(positions.unsqueeze(1) - sources.unsqueeze(0)))


def pooling_matrix(in_size: Tensor, cells: Tensor) -> Tensor:
    """The `(cells, in)` float32 matrix of adaptive average pooling.

    Cell i is the mean from `floor(i * in / cells)` up to `ceil((i + 1) * in / cells)`.
    """
    cell = paddle.arange(0, cells, 1, dtype="int32")
    starts, ends = cell * in_size // cells, ((cell + 1) * in_size + cells - 1) // cells
    sources = paddle.arange(0, in_size, 1, dtype="int32").unsqueeze(0)
    inside = paddle.logical_and(sources >= starts.unsqueeze(1), sources < ends.unsqueeze(1))
    return inside.astype("float32") / (ends - starts).astype("float32").unsqueeze(1)
