"""Whose word counts for the number of classes."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, Manifest
from paddleseg_ext.inference.class_table import find_class_table


def test_a_number_beside_the_manifests_is_refused() -> None:
    manifest = Manifest("Network", generic_table(5))
    bundle = Bundle(Path("deploy.yaml"), Path("model.json"), None, [], None, "none", manifest)
    for given in (None, 5):
        assert find_class_table(bundle, Mock(), given).num_classes == 5
    with pytest.raises(UsageError, match=r"--num_classes 7: deploy\.yaml says 5; leave"):
        find_class_table(bundle, Mock(), 7)
