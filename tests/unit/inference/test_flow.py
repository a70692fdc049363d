"""Counterparts along optical flow, and the share of pixels that keep their class there."""

import cv2
import numpy as np
import pytest

from paddleseg_ext.inference.flow import TemporalConsistency, find_counterparts

SIZE_HW, SHIFT_XY = (96, 144), (5, 3)


def texture(seed: int = 0) -> np.ndarray:
    """(H + 40, W + 40) uint8, with detail at several scales."""
    rng = np.random.default_rng(seed)
    size_wh = (SIZE_HW[1] + 40, SIZE_HW[0] + 40)
    layers = [
        cv2.resize(rng.uniform(0, 255, (n, n)), size_wh, interpolation=cv2.INTER_CUBIC)
        for n in (6, 12, 24)
    ]
    return np.clip(np.mean(layers, axis=0), 0, 255).astype(np.uint8)


def window(plane: np.ndarray, number: int) -> np.ndarray:
    """The view of a camera that moves by `SHIFT_XY` per frame."""
    left, top = SHIFT_XY[0] * number, SHIFT_XY[1] * number
    return plane[top : top + SIZE_HW[0], left : left + SIZE_HW[1]]


def rgb(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2)


def test_a_shift_is_found_and_what_is_new_has_no_counterpart() -> None:
    whole = texture()
    found = find_counterparts(window(whole, 0), window(whole, 1))
    columns, rows = np.meshgrid(np.arange(SIZE_HW[1]), np.arange(SIZE_HW[0]))
    away = np.hypot(found.x - columns - SHIFT_XY[0], found.y - rows - SHIFT_XY[1])
    inner = np.s_[8:-8, 8:-12]
    assert found.exist[inner].mean() > 0.95
    assert np.median(away[inner]) < 0.2 and (away[found.exist] < 1).mean() > 0.97
    assert not found.exist[:, -SHIFT_XY[0] + 1 :].any(), "they were not in the frame before"
    half = found.resized((SIZE_HW[0] // 2, SIZE_HW[1] // 2))
    away = (half.x - np.arange(SIZE_HW[1] // 2))[4:-4, 4:-8]
    assert np.median(away) == pytest.approx(SHIFT_XY[0] / 2, abs=0.1)


def test_what_was_hidden_has_no_counterpart() -> None:
    """A flat square of another brightness is gone in the second frame."""
    now = texture()[: SIZE_HW[0], : SIZE_HW[1]]
    before = now.copy()
    before[30:60, 50:90] = 255 - before[30:60, 50:90] // 4
    exist = find_counterparts(before, now).exist
    assert exist[36:54, 56:84].mean() < 0.1 and exist[:24].mean() > 0.95


def test_what_comes_out_from_behind_has_no_counterpart() -> None:
    """A patch moves over a ground of its own brightness: only the two ways disagree there."""
    ground, patch = ((100 + 0.25 * (texture(seed) - 128.0)).astype(np.uint8) for seed in (4, 5))
    frames = []
    for left in (40, 52):
        frame = ground[: SIZE_HW[0], : SIZE_HW[1]].copy()
        frame[30:66, left : left + 40] = patch[30:66, 20:60]
        frames.append(frame)
    exist = find_counterparts(*frames).exist
    assert exist[32:64, 40:52].mean() < 0.5 and exist[:20].mean() > 0.95


def test_labels_that_move_with_the_film_are_kept_and_flicker_is_counted() -> None:
    whole, rng = texture(), np.random.default_rng(1)
    classes = (whole // 64).astype(np.uint8)
    steady, flickering = TemporalConsistency(), TemporalConsistency()
    for number in range(5):
        label = window(classes, number)
        wrong = rng.uniform(size=label.shape) < 0.1
        steady.add(rgb(window(whole, number)), label)
        flickering.add(rgb(window(whole, number)), np.where(wrong, 9, label).astype(np.uint8))
    assert steady.compared == flickering.compared > 0.85 * steady.pixels
    assert steady.share is not None and steady.share > 0.97
    # Both right, or both wrong.
    expected = steady.share * 0.9**2 + 0.1**2
    assert flickering.share == pytest.approx(expected, abs=0.01)


def test_nothing_to_compare() -> None:
    consistency = TemporalConsistency()
    assert consistency.share is None and consistency.compared_share is None
    consistency.add(np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8))
    consistency.add(np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8))
    assert consistency.share is None
    consistency.add(np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8))
    assert consistency.share == 1.0
    tiny = np.zeros((5, 7), np.uint8)
    assert not find_counterparts(tiny, tiny).exist.any(), "too small for OpenCV"
