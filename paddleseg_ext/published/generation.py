"""A published checkpoint layout: its system, its name, and the network it belongs to."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddleseg_ext.published.mapping import Imported, Rule, rename

Shapes = Mapping[str, tuple[int, ...]]
Check = Callable[[Shapes], bool]
# The tensors for the rules, and name and reason of each that was left out.
Convert = Callable[[Mapping[str, np.ndarray]], tuple[dict[str, np.ndarray], list[tuple[str, str]]]]


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
        signs: further conditions that files of this layout usually meet. They decide between
            layouts of the same tensors, unless the user names one.
        convert: makes the tensors that the rules are for out of those of the file.
        training_only: our modules that a published file may lack, for inference does not need them.
        bgr_inputs: our convolutions that read the image, of a network that was trained with BGR.
            Importing turns them, so that the network reads RGB as all of ours.
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
    signs: tuple[Check, ...] = ()
    convert: Convert | None = None
    training_only: tuple[str, ...] = ()
    bgr_inputs: tuple[str, ...] = ()

    def matches(self, shapes: Shapes) -> bool:
        """Whether tensors of these names and shapes can be of this layout."""
        return all(check(shapes) for check in self.checks)

    def shows_signs(self, shapes: Shapes) -> bool:
        """Whether the names are those that files of this layout usually have."""
        return bool(self.signs) and all(check(shapes) for check in self.signs)

    def rename(
        self, arrays: Mapping[str, np.ndarray], source: str, wanted: Collection[str]
    ) -> Imported:
        """The file's tensors under our names; see `mapping.rename`."""
        if self.convert is None:
            return rename(arrays, self.rules, source, wanted)
        converted, dropped = self.convert(arrays)
        imported = rename(converted, self.rules, source, wanted)
        imported.dropped += dropped
        return imported


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
