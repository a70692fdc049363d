"""Names, folding, and an account of every tensor."""

import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.published.mapping import Rule, rename
from paddleseg_ext.published.systems import GENERATIONS, recognise

RULES = (
    Rule(r"old\.bn", "new.bn", fold_abn=True),
    Rule(r"(?:old|alias)\.conv", "new.conv", fold_bias="new.bn"),
    Rule(r"old\.fc", "new.fc", transpose=True),
    Rule(r"old\.extra", "new.extra", optional=True),
    Rule(r"old\.unused", None, "never read"),
)


def test_every_tensor_is_accounted_for() -> None:
    arrays = {
        "old.bn.weight": np.float32([-2.0, 1.0]),
        "old.bn.running_mean": np.float32([0.0, 1.0]),
        "old.bn.running_var": np.float32([1.0, 1.0]),
        "old.bn.num_batches_tracked": np.array(3),
        "old.conv.weight": np.ones((1, 1, 1, 1), np.float32),
        "old.conv.bias": np.float32([0.5, 0.25]),
        "alias.conv.weight": np.ones((1, 1, 1, 1), np.float32),
        "old.fc.weight": np.float32([[1, 2, 3]]),
        "old.extra.weight": np.float32([1]),
        "old.unused.weight": np.float32([1]),
    }
    result = rename(arrays, RULES, "x.pth", wanted=())
    np.testing.assert_array_equal(
        result.arrays["new.bn.weight"], np.float32([2.0, 1.0]) + np.float32(1e-5)
    )
    assert set(result.arrays) == {
        "new.bn.weight",
        "new.bn._mean",
        "new.bn._variance",
        "new.conv.weight",
        "new.fc.weight",
    }
    assert result.arrays["new.fc.weight"].shape == (3, 1)
    assert [key for key, *_ in result.folded] == ["old.bn.weight", "old.conv.bias"]
    np.testing.assert_array_equal(result.arrays["new.bn._mean"], np.float32([-0.5, 0.75]))
    assert [key for key, _ in result.dropped] == [
        "old.bn.num_batches_tracked",
        "alias.conv.weight",
        "old.extra.weight",
        "old.unused.weight",
    ]
    assert len(result.lines()) == len(arrays)
    assert "new.extra.weight" in rename(arrays, RULES, "x", wanted={"new.extra.weight"}).arrays


def test_leftovers_and_conflicts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"x\.pth: nothing is known of these tensors: foreign"):
        rename({"foreign.weight": np.zeros(1)}, RULES, "x.pth", wanted=())
    arrays = {"old.conv.weight": np.zeros(1), "alias.conv.weight": np.ones(1)}
    with pytest.raises(UsageError, match="different values"):
        rename(arrays, RULES, "x.pth", wanted=())


def test_names_of_layouts_are_unique() -> None:
    names = [(generation.system, generation.name) for generation in GENERATIONS]
    assert len(set(names)) == len(names)


def test_an_unknown_checkpoint_is_told() -> None:
    arrays = {"some.weight": np.zeros(3, np.float32)}
    with pytest.raises(UsageError, match="not a checkpoint of a known layout"):
        recognise(arrays, "auto", None, "x.pth")
    with pytest.raises(UsageError, match="not those of 'r18'"):
        recognise(arrays, "torchseg", "r18", "x.pth")
    with pytest.raises(UsageError, match="did you mean 'r18'"):
        recognise(arrays, "torchseg", "r118", "x.pth")
