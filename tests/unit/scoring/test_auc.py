"""The area under the ROC curve from counts, against scikit-learn's from every pixel."""

import numpy as np
import pytest

from paddleseg_ext.scoring.auc import NUM_BINS, ClassRanks, bins_of


def drawn(num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(C, 40, 50) float32 probabilities that favour the label, and the label."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, (40, 50)).astype(np.uint8)
    logits = rng.normal(0, 3, (num_classes, 40, 50)).astype(np.float32)
    logits += 2 * (label == np.arange(num_classes)[:, None, None])
    exps = np.exp(logits - logits.max(axis=0))
    return exps / exps.sum(axis=0), label


@pytest.mark.parametrize("num_classes", [2, 5])
def test_is_that_of_paddleseg(num_classes: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    ranks, other = ClassRanks(num_classes, 255), ClassRanks(num_classes, 255)
    images = [drawn(num_classes, seed) for seed in range(2)]
    ranks.add(*images[0])
    other.add(*images[1])
    ranks.merge(other)
    label = np.stack([label for _, label in images]).ravel()
    scores = np.stack([p for p, _ in images]).transpose(0, 2, 3, 1).reshape(-1, num_classes)
    if num_classes == 2:
        expected = metrics.roc_auc_score(label, scores[:, 1])
    else:
        scores = scores.astype(np.float64)
        scores /= scores.sum(axis=1, keepdims=True)
        expected = metrics.roc_auc_score(label, scores, multi_class="ovr")
    assert 0.6 < expected < 0.95
    assert ranks.area() == pytest.approx(expected, abs=1e-5)


def test_ignored_pixels_do_not_count_and_absent_classes_have_no_area() -> None:
    probabilities, label = drawn(3)
    ranks, masked = ClassRanks(3, 255), ClassRanks(3, 255)
    label[label == 2] = 1
    ranks.add(probabilities[:, :20], label[:20])
    label[20:] = 255
    masked.add(probabilities, label)
    np.testing.assert_array_equal(ranks.areas(), masked.areas())
    assert np.isnan(ranks.areas()[2])
    assert ranks.area() == pytest.approx(ranks.areas()[:2].mean())
    assert np.isnan(ClassRanks(3, 255).area())


def test_bins_keep_the_order() -> None:
    values = np.sort(np.random.default_rng(0).random(10_000).astype(np.float32) ** 4)
    values = np.concatenate([[0, 1e-30], values, [0.5, np.nextafter(0.5, 1), 1, 1.0000001]])
    bins = bins_of(np.sort(values.astype(np.float32)))
    assert (np.diff(bins) >= 0).all() and bins[0] == 0 and bins[-1] == NUM_BINS - 1
