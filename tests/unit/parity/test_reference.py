"""The reference must be right about itself: its maps, its scores, and when it proves little."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.parity.reference import Reference, with_output_op

TABLE = generic_table(3)
HALVED = [{"type": "Resize", "target_size": [8, 6]}, {"type": "Normalize"}]


class Colors(Engine):
    """A network whose classes are the colours: logits are the image's channels."""

    def run(self, batch):
        return 10 * batch

    def describe(self):
        return RuntimeReport("colors")


@pytest.fixture
def samples(tmp_path):
    generator = np.random.default_rng(0)
    samples = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        samples.append(Sample(path, None, str(number)))
    return samples


def reference(samples, folder, output_op="none", transforms=HALVED, network=None):
    maps = folder / "maps"
    maps.mkdir(exist_ok=True)
    parts = Preprocess(transforms), Postprocess(), TABLE, RuntimeSpec("eager")
    eager = Predictor(network or Colors(), *parts)
    return Reference(with_output_op(eager, output_op), samples, maps)


@pytest.mark.parametrize("output_op", ["none", "softmax", "argmax"])
@pytest.mark.parametrize("transforms", [HALVED, [{"type": "Normalize"}]])
def test_the_scores_explain_the_label_map_for_every_output(
    samples, tmp_path, output_op, transforms
):
    made = reference(samples, tmp_path, output_op, transforms)
    for number in range(2):
        expected = made.label_map(number)
        assert expected.shape == (12, 16)
        np.testing.assert_array_equal(made.scores(number).argmax(axis=0), expected)
        if output_op == "softmax":
            np.testing.assert_allclose(made.scores(number).sum(axis=0), 1, rtol=1e-5)
    assert made.stage == "eager"
    assert made.class_pixels.sum() == 2 * 12 * 16
    assert made.counts is None


def test_judge_compares_in_the_order_of_the_samples(samples, tmp_path):
    made = reference(samples, tmp_path)
    maps = [(made.label_map(0), ""), (made.label_map(0), ""), (None, "unreadable")]
    first, second = made.judge(maps[:2])
    assert (first.grade, second.grade) == ("identical", "failed")
    assert made.judge([maps[2]])[0].reason == "unreadable"


@pytest.mark.parametrize("broken", [0, 1])
def test_an_unreadable_image_fails_alone(samples, tmp_path, broken):
    whole = reference(samples, tmp_path).label_map(1 - broken)
    samples[broken].image.write_bytes(b"no picture")
    made = reference(samples, tmp_path)
    assert [sample.name for sample in made.samples] == [str(1 - broken)]
    (reason,) = made.failed
    assert f"{broken}.png" in reason
    np.testing.assert_array_equal(made.label_map(0), whole)
    assert made.class_pixels.sum() == 12 * 16
    assert made.judge([(whole, "")])[0].grade == "identical"


def test_an_unreadable_label_fails_its_image_alone(samples, tmp_path):
    for number, content in enumerate((np.zeros((12, 16)), np.zeros((3, 3)))):
        cv2.imwrite(str(tmp_path / f"label{number}.png"), content.astype(np.uint8))
    labelled = [
        replace(sample, label=tmp_path / f"label{number}.png")
        for number, sample in enumerate(samples)
    ]
    made = reference(labelled, tmp_path)
    assert [sample.name for sample in made.samples] == ["0"]
    assert made.counts.sum() == 12 * 16
    assert "label1.png" in made.failed[0]


def test_no_readable_image_ends_it(samples, tmp_path):
    for sample in samples:
        sample.image.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0\.png"):
        reference(samples, tmp_path)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_class_that_the_table_lacks_ends_it(samples, tmp_path, labelled):
    class More(Colors):
        def run(self, batch):
            return np.concatenate([batch, batch + 1], axis=1)

    if labelled:
        cv2.imwrite(str(tmp_path / "label.png"), np.zeros((12, 16), np.uint8))
        samples = [replace(sample, label=tmp_path / "label.png") for sample in samples]
    with pytest.raises(UsageError, match=r"0\.png: the network gives class \d, and list has the"):
        reference(samples, tmp_path, network=More())


def test_a_network_that_knows_one_class_is_called_one_sided(samples, tmp_path):
    class Constant(Colors):
        def run(self, batch):
            logits = np.zeros_like(batch)
            logits[:, 1] = 1
            return logits

    assert reference(samples, tmp_path).one_sided() == ""
    warning = reference(samples, tmp_path, network=Constant()).one_sided()
    assert "predicts 'class_1' at 100.0% of all pixels" in warning
