"""Names, folding, and an account of every tensor."""

import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.published.mapping import layers, rename, unused
from paddleseg_ext.published.systems import GENERATIONS, recognise

RULES = (
    *layers({"old": "new"}, fold_abn=True, fold_bias=True),
    *layers({"alias.conv": "new.conv"}),
    *layers({"old.fc": "new.fc"}, transpose=True),
    *layers({"old.extra": "new.extra"}, optional=True),
    unused("old.unused", "never read"),
)


def test_paths_of_the_original_are_patterns() -> None:
    table = {"stage#.(left|right).#": "stages.*.*.*", "resnet.**": "backbone.*"}
    rules = layers(table, conv="0", norm="1")
    names = {
        "stage3.left.12.0": "stages.3.left.12.conv",
        "stage3.right.0.1": "stages.3.right.0.bn",
        "resnet.layer1.0.conv1": "backbone.layer1.0.conv1",
    }
    arrays = {f"{module}.weight": np.zeros(1) for module in names}
    result = rename(arrays, rules, "x.pth", wanted=())
    assert set(result.arrays) == {f"{target}.weight" for target in names.values()}
    for strange in ("stage3.middle.0.0", "stage.left.0.0", "stage3xleft.0.0", "resnet"):
        with pytest.raises(UsageError, match="unknown tensors"):
            rename({f"{strange}.weight": np.zeros(1)}, rules, "x.pth", wanted=())


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
    with pytest.raises(UsageError, match=r"x\.pth: unknown tensors: foreign"):
        rename({"foreign.weight": np.zeros(1)}, RULES, "x.pth", wanted=())
    arrays = {"old.conv.weight": np.zeros(1), "alias.conv.weight": np.ones(1)}
    with pytest.raises(UsageError, match="values differ"):
        rename(arrays, RULES, "x.pth", wanted=())


def test_names_of_layouts_are_unique() -> None:
    names = [(generation.system, generation.name) for generation in GENERATIONS]
    assert len(set(names)) == len(names)


def test_an_unknown_checkpoint_is_refused() -> None:
    arrays = {"some.weight": np.zeros(3, np.float32)}
    with pytest.raises(UsageError, match="not a checkpoint of a known layout"):
        recognise(arrays, "auto", None, "x.pth")
    with pytest.raises(UsageError, match="not those of 'r18'"):
        recognise(arrays, "torchseg", "r18", "x.pth")
    with pytest.raises(UsageError, match="did you mean 'r18'"):
        recognise(arrays, "torchseg", "r118", "x.pth")
