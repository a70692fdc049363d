"""Tensors of different types as Paddle 2 calculated with them: the right one gets the left one's.

Paddle 3 refuses `float32 * int64` and `float32 + bool`, which PaddleSeg's code is written with. It
also joins sizes, which were tensors of one number in Paddle 2 and have no axis now.

Source: Paddle 2.5, fluid/pybind/eager_math_op_patch.cc.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

_OPERATORS = tuple(
    f"__{name}__"
    for name in ("add", "sub", "mul", "truediv", "pow", "gt", "ge", "lt", "le", "eq", "ne")
)


def types_for(*layers: Any) -> AbstractContextManager[None]:
    """The context for calling layers: Paddle 2's rule where one is PaddleSeg's, else nothing."""
    theirs = any(type(layer).__module__.startswith("paddleseg.") for layer in layers)
    return with_paddle2_types() if theirs else nullcontext()


@contextmanager
def with_paddle2_types() -> Iterator[None]:
    """A context with Paddle 2's rule for operators on two tensors of which one holds no floats.

    In it `paddle.concat` takes single numbers, and whole numbers of different types. It holds for
    dynamic and for static graphs.
    """
    import paddle

    kinds: list[Any] = [paddle.Tensor]
    if hasattr(paddle, "pir"):  # Paddle 3
        kinds.append(paddle.pir.Value)
    floats = {paddle.float16, paddle.bfloat16, paddle.float32, paddle.float64}
    plain = [(kind, name, getattr(kind, name)) for kind in kinds for name in _OPERATORS]
    concat = paddle.concat
    try:
        paddle.concat = _joining_numbers(concat)
        for kind, name, operator in plain:
            setattr(kind, name, _converting(operator, tuple(kinds), floats))
        yield
    finally:
        paddle.concat = concat
        for kind, name, operator in plain:
            setattr(kind, name, operator)


def _converting(
    operator: Callable[[Any, Any], Any], kinds: tuple[Any, ...], floats: set[Any]
) -> Callable[[Any, Any], Any]:
    @wraps(operator)
    def converted(left: Any, right: Any) -> Any:
        differ = isinstance(right, kinds) and left.dtype != right.dtype
        if differ and not {left.dtype, right.dtype} <= floats:
            right = right.astype(left.dtype)
        return operator(left, right)

    return converted


def _joining_numbers(concat: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(concat)
    def joined(x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, list | tuple):
            x = [tensor if len(tensor.shape) else tensor.reshape([1]) for tensor in x]
            if not any(tensor.is_floating_point() for tensor in x):
                x = [tensor.astype(x[0].dtype) for tensor in x]
        return concat(x, *args, **kwargs)

    return joined
