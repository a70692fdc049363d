"""Compares the class table of a bundle with that of the network's configuration.

The service, overlays and JSON call classes by these names and colours, and `infer` reads labels by
the table. Label maps, which hold numbers, do not show a difference.
"""

from typing import Any

from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.bundle import Bundle

OTHER_CLASSES = "other classes"


def why_other_classes(bundle: Bundle, table: ClassTable, source: str) -> str:
    """The entries of the bundle's class table that differ, one line; empty where none does.

    The name of the data set is not compared.

    Args:
        bundle: one without a manifest says nothing of its classes.
        table: the right one.
        source: its file, for the message.
    """
    if bundle.manifest is None or bundle.manifest.class_table is table:
        return ""
    found, wanted = bundle.manifest.class_table.to_dict(), table.to_dict()
    differing = [key for key in wanted if key != "name" and found.get(key) != wanted[key]]
    if not differing:
        return ""
    said = "; ".join(f"{key}: {_difference(found.get(key), wanted[key])}" for key in differing)
    return f"{OTHER_CLASSES}: {bundle.deploy_file} differs from {source} in {said}; export it again"


def _difference(found: Any, wanted: Any) -> str:
    """The first entry that differs."""
    if isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            return f"{len(found)} entries, not {len(wanted)}"
        place = next(
            i
            for i, pair in enumerate(zip(found, wanted, strict=True))
            if len({*map(str, pair)}) > 1
        )
        return f"number {place} is {found[place]!r}, not {wanted[place]!r}"
    return (
        f"{found!r}, not {wanted!r}" if not isinstance(found or wanted, list) else "only one has it"
    )
