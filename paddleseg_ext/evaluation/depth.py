"""Where a class is missed: by the distance from the camera, where depth is known.

Depth comes from a file beside the label in the form of KITTI, or from a Cityscapes folder's
disparities and cameras.

Source: KITTI's depth development kit, readme.txt (metres times 256, 0 unknown); Cityscapes:
mcordts/cityscapesScripts README.md (disparities), docs/csCalibration.pdf (cameras).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.reading import read_whole_numbers
from paddleseg_ext.scoring.metrics import plain

RANGES = {"< 10 m": 10.0, "10 to 20 m": 20.0, "20 to 40 m": 40.0, "40 m or more": np.inf}
STEPS = 256  # of a metre, or of a pixel of disparity
_CITYSCAPES_LABELS = "_gtFine_"


def read_depth(label: Path) -> NDArray[np.float32] | None:
    """(H, W) metres from the camera, nan where unknown; None where no file belongs to the label.

    `b_depth.png` beside `b.png`, or Cityscapes' `disparity/SPLIT/CITY/a_disparity.png` with
    `camera/SPLIT/CITY/a_camera.json` for `gtFine/SPLIT/CITY/a_gtFine_labelIds.png`.

    Raises:
        DataError: a file is damaged or has another form.
    """
    beside = label.with_name(f"{label.stem}_depth.png")
    if beside.is_file():
        return _metres(beside)
    name, is_cityscapes, _ = label.name.partition(_CITYSCAPES_LABELS)
    if not is_cityscapes or len(label.parents) < 4:
        return None
    root, place = label.parents[3], Path(*label.parts[-3:-1])
    disparity = root / "disparity" / place / f"{name}_disparity.png"
    camera = root / "camera" / place / f"{name}_camera.json"
    if not disparity.is_file() or not camera.is_file():
        return None
    return _from_disparity(_stored(disparity), _baseline_times_focal(camera))


class DepthCounts:
    """Labelled pixels and right ones, by class and distance from the camera: (C, 4) int64.

    Attributes:
        num_images: that had depth.
    """

    def __init__(self, table: ClassTable):
        self._table = table
        self.pixels = np.zeros((table.num_classes, len(RANGES)), np.int64)
        self.hits = np.zeros_like(self.pixels)
        self.num_images = 0

    def add(
        self, label_map: NDArray[np.uint8], label: NDArray[np.uint8], metres: NDArray[np.float32]
    ) -> None:
        """Add one image.

        Args:
            label_map: (H, W) predicted classes.
            label: (H, W) classes or the ignored value.
            metres: (H, W), nan where unknown.
        """
        self.num_images += 1
        chosen = (label != self._table.ignore_index) & ~np.isnan(metres)
        kinds, right = label[chosen], (label_map == label)[chosen]
        ranges = np.digitize(metres[chosen], [*RANGES.values()][:-1])
        np.add.at(self.pixels, (kinds, ranges), 1)
        np.add.at(self.hits, (kinds, ranges), right)

    def merge(self, other: "DepthCounts") -> None:
        """Add the counts of another process."""
        self.pixels += other.pixels
        self.hits += other.hits
        self.num_images += other.num_images

    def to_dict(self) -> dict[str, Any]:
        """Counts and shares for JSON, of the classes that have pixels of known depth."""
        recall = np.where(self.pixels > 0, self.hits / np.maximum(self.pixels, 1), np.nan)
        return {
            "num_images": self.num_images,
            "ranges": [*RANGES],
            "classes": {
                self._table.class_names[number]: {
                    "pixels": self.pixels[number].tolist(),
                    "hits": self.hits[number].tolist(),
                    "recall": plain(recall[number]),
                }
                for number in np.flatnonzero(self.pixels.sum(axis=1))
            },
        }


def _metres(path: Path) -> NDArray[np.float32]:
    stored = _stored(path)
    return np.where(stored > 0, stored / STEPS, np.nan).astype(np.float32)


def _from_disparity(stored: NDArray[np.integer], scale: float) -> NDArray[np.float32]:
    """Metres of disparities as Cityscapes stores them: 0 is unknown, 1 is infinitely far."""
    with np.errstate(divide="ignore"):
        metres = scale / (np.maximum(stored - 1, 0) / STEPS)
    return np.where(stored > 0, metres, np.nan).astype(np.float32)


def _stored(path: Path) -> NDArray[np.integer]:
    return read_whole_numbers(path, "depth and disparities", fewest_bits=16)


def _baseline_times_focal(path: Path) -> float:
    """Metres times pixels of a stereo camera."""
    try:
        camera = read_json(path)
        scale = float(camera["extrinsic"]["baseline"]) * float(camera["intrinsic"]["fx"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: extrinsic.baseline and intrinsic.fx are expected: {error}"
        ) from None
    if scale <= 0:
        raise DataError(f"{path}: extrinsic.baseline and intrinsic.fx must be above 0")
    return scale
