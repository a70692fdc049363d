"""What a published checkpoint is: its system, its generation, and the network it belongs to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from paddleseg_ext.published.mapping import Rule

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Generation:
    """One layout of checkpoints that a system has published.

    Attributes:
        system: what `--from` calls the system.
        name: what `--generation` calls the layout.
        title: a line for people.
        model: the options of `model:` that these weights need, `type` and all but the defaults.
        rules: where each tensor goes.
        matches: whether tensors of these names and shapes can be of this layout.
        part: `model`; `backbone` for weights of a classifier that a network starts from; `body`
            for a network without its heads.
    """

    system: str
    name: str
    title: str
    model: Mapping[str, Any]
    rules: tuple[Rule, ...]
    matches: Callable[[Shapes], bool]
    part: str = "model"


def has(*keys: str) -> Callable[[Shapes], bool]:
    """All of these keys are there."""
    return lambda shapes: all(key in shapes for key in keys)


def lacks(*keys: str) -> Callable[[Shapes], bool]:
    """None of these keys is there."""
    return lambda shapes: not any(key in shapes for key in keys)


def shaped(key: str, *dims: int | None) -> Callable[[Shapes], bool]:
    """`key` has this shape; None stands for any number."""

    def check(shapes: Shapes) -> bool:
        shape = shapes.get(key)
        return (
            shape is not None
            and len(shape) == len(dims)
            and all(want in (None, got) for want, got in zip(dims, shape, strict=True))
        )

    return check


def all_of(*checks: Callable[[Shapes], bool]) -> Callable[[Shapes], bool]:
    """Every one of the checks holds."""
    return lambda shapes: all(check(shapes) for check in checks)
