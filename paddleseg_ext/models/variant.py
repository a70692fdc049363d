"""Variants of a network: published versions that share a figure and differ in details."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from paddleseg_ext.common.errors import check_choice

AnyVariant = TypeVar("AnyVariant", bound="Variant")


@dataclass(frozen=True)
class Variant:
    """Base of a network's table of details; its `Literal` fields refuse other values."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal:
                check_choice(name, getattr(self, name), get_args(kind))


def find_variant(variants: Mapping[str, AnyVariant], name: str) -> AnyVariant:
    """Returns `variants[name]`.

    Raises:
        UsageError: there is no such variant; the message names the nearest.
    """
    check_choice("variant", name, variants)
    return variants[name]
