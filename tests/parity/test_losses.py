"""Losses against the numbers of the original systems."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import paddle
import pytest

from paddleseg_ext.losses.cross_entropy import CrossEntropyLoss
from paddleseg_ext.losses.detail import DetailAggregateLoss
from paddleseg_ext.losses.ohem import CoinCheungOhemLoss, OhemCrossEntropyLoss, StdcOhemLoss

from .golden_inputs import loss_and_gradient, make_labels, make_pixel_inputs

pytestmark = pytest.mark.parity


NAMES = ["hard", "easy", "mixed", "few_valid", "all_ignored"]
LOSSES = {
    "torchseg_prob_ohem": OhemCrossEntropyLoss,
    "cc_ohem": CoinCheungOhemLoss,
    "stdc_ohem": StdcOhemLoss,
    "mmseg_ce": lambda: CrossEntropyLoss(avg_non_ignore=False),
}


def sub_case(directory: Path, name: str) -> dict:
    meta = json.loads((directory / "meta.json").read_text())
    return next(sub for sub in meta["subcases"] if sub["name"] == name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", LOSSES)
def test_pixel_losses_are_the_originals(
    shared_dir: Path, generator: ModuleType, kind: str, name: str
) -> None:
    directory = shared_dir / "golden" / f"loss_{kind}"
    sub = sub_case(directory, name)
    logits, labels = make_pixel_inputs(generator, sub)
    loss, gradient = loss_and_gradient(LOSSES[kind](), logits, labels)
    if name == "all_ignored":  # some originals give NaN; ours is the stated deviation
        assert loss == 0.0
        assert not gradient.any()
        return
    with np.load(directory / "expected.npz") as expected:
        np.testing.assert_allclose(loss, expected[f"{name}.loss"], rtol=1e-5)
        np.testing.assert_allclose(gradient, expected[f"{name}.grad"], rtol=1e-5, atol=1e-9)
    assert np.count_nonzero(gradient.any(axis=1)) == sub["pixels_with_gradient"]


@pytest.mark.parametrize("name", ["eighth", "full", "odd", "all_ignored", "decayed"])
def test_detail_guidance_is_stdcs(shared_dir: Path, generator: ModuleType, name: str) -> None:
    directory = shared_dir / "golden" / "loss_stdc_detail"
    sub = sub_case(directory, name)
    labels = make_labels(generator, sub["labels"])
    logits = generator.make_input(sub["logits"]["shape"], sub["logits"]["seed"])
    loss = DetailAggregateLoss(sub["fuse_kernel"])
    bce, dice = loss.parts(paddle.to_tensor(logits), paddle.to_tensor(labels))
    assert float(bce) == pytest.approx(sub["bce"], rel=1e-5)
    assert float(dice) == pytest.approx(sub["dice"], rel=1e-5)
    _, gradient = loss_and_gradient(loss, logits, labels)
    target = loss.boundaries(paddle.to_tensor(labels)).numpy()
    with np.load(directory / "expected.npz") as expected:
        np.testing.assert_allclose(gradient, expected[f"{name}.grad"], rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(target.squeeze(), expected[f"{name}.target"].squeeze())
