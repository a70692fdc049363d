"""A bundle that calls its classes otherwise than the network's configuration is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.parity.classes import why_other_classes

NAMES = Path("b/deploy.yaml"), Path("model.json"), Path("model.pdiparams")


def bundle(table: ClassTable) -> Bundle:
    return Bundle(*NAMES, [], None, "none", Manifest("net", table))


LOOKUP = CITYSCAPES.label_lookup
assert LOOKUP is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_names": CITYSCAPES.class_names[::-1]}, "number 0 is 'bicycle', not 'road'"),
        ({"class_names": (*CITYSCAPES.class_names[:-1], "bike")}, "number 18 is 'bike', not 'bic"),
        ({"palette": CITYSCAPES.palette[::-1]}, "palette: number 0 is [119, 11, 32], not [128, 6"),
        ({"label_lookup": np.roll(LOOKUP, 1)}, "label_lookup: number "),
        ({"label_lookup": None}, "label_lookup: only one has it"),
        ({"ignore_index": 254}, "ignore_index: 254, not 255"),
        ({"lookup_suffix": ".png"}, "lookup_suffix: '.png', not '_labelIds.png'"),
        ({"left_right": ((0, 1),)}, "left_right: 1 entries, not 0"),
        ({"class_names": CITYSCAPES.class_names[:5]}, "class_names: 5 entries, not 19"),
    ],
)
def test_every_entry_is_compared(changes: dict, said: str) -> None:
    found = replace(CITYSCAPES, **changes)
    why = why_other_classes(bundle(found), CITYSCAPES, "net.yml")
    assert why.startswith("other classes: b/deploy.yaml differs from net.yml in ")
    assert said in why


def test_equal_tables_and_bundles_without_one_pass() -> None:
    renamed = replace(generic_table(3), name="another list")
    assert why_other_classes(bundle(renamed), generic_table(3), "net.yml") == ""
    assert why_other_classes(Bundle(*NAMES, [], None, "none", None), CITYSCAPES, "net.yml") == ""
