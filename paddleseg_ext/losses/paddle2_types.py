"""Tensors of different types as Paddle 2 calculated with them: the right one gets the left one's.

Paddle 3 refuses `float32 * int64` and `float32 + bool`, which PaddleSeg's code is written with.

Source: Paddle 2.5, fluid/pybind/eager_math_op_patch.cc.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import paddle

_OPERATORS = tuple(
    f"__{name}__"
    for name in ("add", "sub", "mul", "truediv", "pow", "gt", "ge", "lt", "le", "eq", "ne")
)


@contextmanager
def with_paddle2_types() -> Iterator[None]:
    """A context with Paddle 2's rule for operators on two tensors of which one holds no floats."""
    kind: Any = paddle.Tensor
    plain = {name: getattr(kind, name) for name in _OPERATORS}
    try:
        for name, operator in plain.items():
            setattr(kind, name, _converting(operator))
        yield
    finally:
        for name, operator in plain.items():
            setattr(kind, name, operator)


def _converting(operator: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @wraps(operator)
    def converted(left: Any, right: Any) -> Any:
        differ = isinstance(right, paddle.Tensor) and left.dtype != right.dtype
        if differ and not (left.is_floating_point() and right.is_floating_point()):
            right = right.astype(left.dtype)
        return operator(left, right)

    return converted
