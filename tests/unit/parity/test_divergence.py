"""Where a run leaves the reference: outputs, images and counts, each by itself."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.parity.divergence import (
    Evidence,
    _cause_of_logits,
    compare_outputs,
    locate,
    locate_counts,
    locate_input,
    worst_image,
)
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.weights import WeightDifference
from paddleseg_ext.scoring.verdict import ImageVerdict

SCORES = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32) * 10


class Scores(Engine):
    """A network whose logits are its input."""

    def run(self, batch):
        return batch.astype(np.float32)

    def describe(self):
        return RuntimeReport("scores")


def test_equal_outputs_say_nothing():
    assert compare_outputs(SCORES, SCORES, failed=True) == ""
    assert compare_outputs(SCORES.argmax(axis=0), SCORES, failed=True) == ""


def test_rounding_explains_a_near_tie_and_no_failure():
    drifted = SCORES + np.float32(1e-5)
    assert "differs by up to 1" in compare_outputs(drifted, SCORES, failed=False)
    assert compare_outputs(drifted, SCORES, failed=True) == ""


def test_an_output_of_another_size_or_class_is_told():
    text = compare_outputs(SCORES[:, :3], SCORES, failed=True)
    assert text == "the network's output is (3, 3, 5) instead of (3, 4, 5)"
    text = compare_outputs(SCORES[:2], SCORES, failed=True)
    assert text == "the network's output is (2, 4, 5) instead of (3, 4, 5)"
    labels = SCORES.argmax(axis=0)
    labels[0, 0] += 1
    assert "5.00% of its pixels" in compare_outputs(labels, SCORES, failed=True)


def test_the_worst_image_has_the_worst_grade_and_most_decided_pixels():
    def image(grade: str, different: int, decided: int) -> ImageVerdict:
        return ImageVerdict("a", grade, different, decided, 100)

    identical, tie = image("identical", 0, 0), image("near-tie", 50, 0)
    few, many = image("failed", 2, 2), image("failed", 9, 9)
    assert worst_image([identical, identical]) is None
    assert worst_image([identical, tie]) == 1
    assert worst_image([tie, few, identical, many]) == 3


@pytest.mark.parametrize("shift", [1, -1])
def test_counts_that_moved_by_a_class_are_called_a_shifted_table(shift):
    counts = np.arange(9).reshape(3, 3)
    found = locate_counts(counts, np.roll(counts, shift, axis=0))
    assert found is not None
    assert (found.place, found.cause) == ("counts", "label table shifted by one")
    assert locate_counts(counts, counts.copy()) is None
    other = locate_counts(counts, counts + 1)
    assert other is not None
    assert other.cause == ""


@pytest.mark.parametrize(("shift", "lost"), [(1, 0), (-1, -1)])
def test_a_class_that_falls_off_the_table_is_ignored_and_the_shift_is_named(shift, lost):
    counts = np.arange(16).reshape(4, 4)
    shifted = np.roll(counts, shift, axis=0)
    shifted[lost] = 0
    found = locate_counts(counts, shifted)
    assert found is not None
    assert found.cause == "label table shifted by one"
    # The labels tell it, also where another kernel predicted a pixel otherwise.
    shifted[1, 0], shifted[1, 1] = shifted[1, 1], shifted[1, 0]
    assert locate_counts(counts, shifted).cause == "label table shifted by one"


def test_other_predictions_for_the_same_labels_are_no_shifted_table():
    counts = np.full((3, 3), 4)
    other = counts.copy()
    other[0] = [5, 3, 4]
    found = locate_counts(counts, other)
    assert found is not None
    assert found.cause == ""


def test_onednn_is_the_cause_where_the_graph_is_right_without_it_whatever_tensors_it_holds():
    class Gives(Engine):
        def run(self, batch):
            return SCORES[None]

        def describe(self):
            return RuntimeReport("gives")

    predictor = Predictor(Gives(), Preprocess([]), Postprocess(), generic_table(3))
    prepared = predictor.prepare(np.zeros((4, 5, 3), np.uint8))
    extra = SimpleNamespace(compare=lambda bundle: WeightDifference(1, 9))
    given = Evidence(checkpoint=extra, without_onednn=lambda: predictor)
    cause = _cause_of_logits(prepared, SCORES, None, given)
    assert cause.startswith("wrong oneDNN pass or kernel")
    cause = _cause_of_logits(prepared, SCORES, None, replace(given, without_onednn=None))
    assert cause.startswith("one weight changed: 1 of 9 tensors")


@pytest.fixture
def turned_image(tmp_path) -> Sample:
    """A square whose orientation tag turns it by a quarter."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=tag)
    return Sample(tmp_path / "turned.png", None, "turned")


@pytest.mark.parametrize(
    ("deployed", "trained"),
    [("stored", "upright"), ("upright", "stored"), ("upright", "upright"), ("stored", "stored")],
)
def test_a_bundle_that_reads_images_turned_is_named(turned_image, tmp_path, deployed, trained):
    """Both sides read the file as they say; its input tensor differs, and so do the label maps."""
    (tmp_path / "maps").mkdir()
    normalize = [{"type": "Normalize"}]
    predictors = [
        Predictor(Scores(), Preprocess(normalize, orientation=o), Postprocess(), generic_table(3))
        for o in (deployed, trained)
    ]
    manifest = Manifest("net", generic_table(3), orientation=deployed)
    bundle = Bundle(
        *map(Path, ("b/deploy.yaml", "b/model.json", "b/model.pdiparams")),
        normalize,
        None,
        "none",
        manifest,
    )
    reference = Reference(predictors[1], [turned_image], tmp_path / "maps")
    found = locate_input(bundle, reference, Evidence(normalize))
    worst = [ImageVerdict("turned", "failed", 9, 9, 36)]
    at_worst = locate(worst, predictors[0], bundle, reference, Evidence(normalize))
    if deployed == trained:
        assert found is None
        assert at_worst.place == "label map"
    else:
        assert found.place == at_worst.place == "input tensor"
        assert found.cause == f"other orientation: {deployed} in the bundle, {trained} in the yml"
        assert at_worst.cause == found.cause
