"""Pixels by distance from the camera, by pictures that can be counted by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.evaluation.depth import DepthCounts, read_depth
from paddleseg_ext.images.labels import generic_table

TABLE = generic_table(3)


def write_cityscapes(root: Path, disparity: np.ndarray, camera: str) -> Path:
    """A folder of one image's disparities and camera, and its label's name."""
    place = Path("val/ulm")
    for kind in ("disparity", "camera", "gtFine"):
        (root / kind / place).mkdir(parents=True)
    cv2.imwrite(str(root / "disparity" / place / "ulm_1_disparity.png"), disparity)
    (root / "camera" / place / "ulm_1_camera.json").write_text(camera)
    return root / "gtFine" / place / "ulm_1_gtFine_labelTrainIds.png"


CAMERA = {"extrinsic": {"baseline": 0.2}, "intrinsic": {"fx": 2000.0, "fy": 1.0}}


def test_counts_by_distance() -> None:
    label = np.array([[0, 1, 1, 1], [0, 1, 255, 1]], np.uint8)
    metres = np.array([[5, 10, 39, np.inf], [np.nan, 19, 5, 41]], np.float32)
    found = np.array([[0, 1, 0, 1], [0, 0, 1, 0]], np.uint8)
    counts = DepthCounts(TABLE)
    counts.add(found, label, metres)
    assert counts.pixels.tolist() == [[1, 0, 0, 0], [0, 2, 1, 2], [0, 0, 0, 0]]
    assert counts.hits.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    written = counts.to_dict()
    assert list(written["classes"]) == ["class_0", "class_1"]
    assert written["classes"]["class_1"]["recall"] == [None, 0.5, 0.0, 0.5]
    json.dumps(written, allow_nan=False)
    other = DepthCounts(TABLE)
    other.add(found, label, metres)
    counts.merge(other)
    assert counts.num_images == 2 and counts.pixels[1].tolist() == [0, 4, 2, 4]


def test_depth_beside_a_label_is_in_kittis_form(tmp_path: Path) -> None:
    stored = np.array([[0, 256], [2560 + 128, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "b_depth.png"), stored)
    np.testing.assert_array_equal(
        read_depth(tmp_path / "b.png"), np.float32([[np.nan, 1], [10.5, 65535 / 256]])
    )
    assert read_depth(tmp_path / "c.png") is None


def test_a_picture_of_depth_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "b_depth.png"), np.full((2, 2), 9, np.uint8))
    with pytest.raises(DataError, match=r"b_depth\.png: .*16 bits, got 8"):
        read_depth(tmp_path / "b.png")


def test_disparities_of_cityscapes(tmp_path: Path) -> None:
    """A disparity is (stored - 1) / 256 pixels, depth baseline * focal length / disparity."""
    stored = np.array([[0, 1], [1 + 256 * 20, 1 + 256 * 50]], np.uint16)
    label = write_cityscapes(tmp_path, stored, json.dumps(CAMERA))
    np.testing.assert_allclose(read_depth(label), [[np.nan, np.inf], [20, 8]], rtol=1e-6)
    (tmp_path / "camera/val/ulm/ulm_1_camera.json").unlink()
    assert read_depth(label) is None


@pytest.mark.parametrize(
    "camera",
    [
        "{",
        "[]",
        json.dumps({"extrinsic": {}, "intrinsic": {}}),
        json.dumps({"extrinsic": {"baseline": -1}, "intrinsic": {"fx": 1}}),
        '{"extrinsic": {"baseline": NaN}, "intrinsic": {"fx": 1}}',
    ],
)
def test_a_damaged_camera_is_named(tmp_path: Path, camera: str) -> None:
    label = write_cityscapes(tmp_path, np.ones((2, 2), np.uint16), camera)
    with pytest.raises(DataError, match=r"ulm_1_camera\.json: extrinsic\.baseline"):
        read_depth(label)
