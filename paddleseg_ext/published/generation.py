"""A published checkpoint layout: its system, its name, and the network it belongs to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from paddleseg_ext.published.mapping import Rule

Shapes = Mapping[str, tuple[int, ...]]
Check = Callable[[Shapes], bool]


@dataclass(frozen=True)
class Generation:
    """One checkpoint layout that a system has published.

    Attributes:
        system: its name for `--from`.
        name: the layout's name for `--generation`.
        title: a line for people.
        model: the options of `model:` that these weights need, `type` and all but the defaults.
        rules: our name for each tensor.
        checks: conditions on names and shapes that every checkpoint of this layout meets.
        part: `model`; `backbone` for weights of a classifier that a network starts from; `body`
            for a network without its heads.
    """

    system: str
    name: str
    title: str
    model: Mapping[str, Any]
    rules: tuple[Rule, ...]
    checks: tuple[Check, ...]
    part: str = "model"

    def matches(self, shapes: Shapes) -> bool:
        """Whether tensors of these names and shapes can be of this layout."""
        return all(check(shapes) for check in self.checks)


def has(*keys: str) -> Check:
    """Checks that all of these tensors exist."""
    return lambda shapes: all(key in shapes for key in keys)


def lacks(*keys: str) -> Check:
    """Checks that none of these tensors exists."""
    return lambda shapes: not any(key in shapes for key in keys)


def shaped(key: str, *dims: int | None) -> Check:
    """Checks that the tensor `key` has this shape; None is any number."""

    def check(shapes: Shapes) -> bool:
        shape = shapes.get(key)
        return (
            shape is not None
            and len(shape) == len(dims)
            and all(want in (None, got) for want, got in zip(dims, shape, strict=True))
        )

    return check
