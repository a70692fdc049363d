"""Losses against the numbers of the original systems."""

import json
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddleseg_ext.losses.ohem import OhemCrossEntropyLoss

pytestmark = pytest.mark.parity


def loss_and_gradient(loss, logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and d loss / d logits."""
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    value = loss(tensor, paddle.to_tensor(labels))
    value.backward()
    return float(value), tensor.grad.numpy()


def make_case(fixture, sub: dict) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of a sub-case, as its meta.json describes them."""
    shape, spec = sub["logits"]["shape"], sub["labels"]
    n, classes, height, width = shape
    labels = fixture.make_labels(
        (n, height, width), classes, spec["seed"], spec["block"], spec["ignore_frac"]
    )
    logits = fixture.make_input(shape, sub["logits"]["seed"])
    for image, row, column in np.argwhere(labels != 255):
        label = labels[image, row, column]
        logits[image, label, row, column] += np.float32(sub["logits"]["boost"])
    return logits, labels


@pytest.mark.parametrize("name", ["hard", "easy", "mixed", "few_valid", "all_ignored"])
def test_ohem_is_torchsegs(shared_dir: Path, name: str) -> None:
    sys.path.insert(0, str(shared_dir / "golden"))
    import fixture

    directory = shared_dir / "golden" / "loss_torchseg_prob_ohem"
    meta = json.loads((directory / "meta.json").read_text())
    sub = next(s for s in meta["subcases"] if s["name"] == name)
    logits, labels = make_case(fixture, sub)
    loss, gradient = loss_and_gradient(OhemCrossEntropyLoss(), logits, labels)
    if name == "all_ignored":  # the original gives NaN; ours is the stated deviation
        assert loss == 0.0
        assert not gradient.any()
        return
    with np.load(directory / "expected.npz") as expected:
        np.testing.assert_allclose(loss, expected[f"{name}.loss"], rtol=1e-5)
        np.testing.assert_allclose(gradient, expected[f"{name}.grad"], rtol=1e-5, atol=1e-9)
    assert np.count_nonzero(gradient.any(axis=1)) == sub["pixels_with_gradient"]
