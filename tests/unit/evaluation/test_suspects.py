"""Regions whose labels are probably wrong."""

import numpy as np

from paddleseg_ext.evaluation.suspects import FEWEST_PIXELS, look_at, rank
from paddleseg_ext.images.labels import generic_table

TABLE = generic_table(3)


def sure_of(classes: np.ndarray, sureness: float = 0.9) -> np.ndarray:
    """(3, H, W) probabilities of a network that is sure of these classes."""
    rest = (1 - sureness) / 2
    return np.where(np.arange(3)[:, None, None] == classes, sureness, rest).astype(np.float32)


def test_a_region_is_described() -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[10:20, 5:25] = 1
    label = truth.copy()
    label[10:20, 5:25] = 2
    label[0:4] = 255
    (region,) = look_at(7, sure_of(truth), label, TABLE).regions
    assert (region.image, region.box, region.pixels) == (7, (5, 10, 20, 10), 200)
    assert (region.predicted, region.labelled) == (1, 2)
    np.testing.assert_allclose((region.p_predicted, region.p_labelled), (0.9, 0.05), atol=1e-6)
    assert 4 < region.radius <= 6
    assert 8 <= region.middle[0] <= 21 and 13 <= region.middle[1] <= 16


def test_ignored_and_tiny_regions_are_none() -> None:
    truth = np.zeros((20, 20), np.uint8)
    label = truth.copy()
    label[0, :FEWEST_PIXELS] = 1
    assert len(look_at(0, sure_of(truth), label, TABLE).regions) == 1
    label[0, 0] = 0
    assert not look_at(0, sure_of(truth), label, TABLE).regions
    label[:] = 255
    look = look_at(0, sure_of(truth), label, TABLE)
    assert not look.regions and not look.class_pixels.any()


def test_wide_sure_and_improbable_come_first() -> None:
    """A wrong object before a shifted outline, and before one that the network is unsure of."""
    truth = np.zeros((60, 120), np.uint8)
    truth[10:30, 10:30] = truth[10:30, 50:70] = truth[10:30, 90:110] = 1
    sure = sure_of(truth)
    sure[:, :, 45:75] = sure_of(truth, 0.5)[:, :, 45:75]
    label = truth.copy()
    label[10:30, 10:30] = 0  # a missing object
    label[10:30, 50:70] = 0  # one of which the network is not sure
    label[10:30, 107:110] = 0  # a strip
    suspects = rank([look_at(0, sure, label, TABLE)])
    assert [suspect.region.box[0] for suspect in suspects] == [10, 50, 107]
    assert suspects[0].score > 1.5 * suspects[1].score
    assert rank([]) == []


def test_a_class_that_the_network_never_knows_well_needs_less() -> None:
    """The threshold is the class's own mean: 0.5 is sure of a class that mostly gets 0.5."""
    truth = np.ones((20, 40), np.uint8)
    label = truth.copy()
    label[5:15, 5:15] = 0
    looks = [look_at(0, sure_of(truth, 0.5), label, TABLE)]
    alone = rank(looks)[0].score
    well_known = look_at(1, sure_of(truth, 0.99), truth, TABLE)
    assert rank([*looks, *[well_known] * 9])[0].score < 0.7 * alone
