"""Predictions in the form of the Cityscapes test server: PNGs of label ids, named by the image."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError, failing_alone
from paddleseg_ext.common.log import log
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.labels import CITYSCAPES, CITYSCAPES_RAW_IDS, ClassTable
from paddleseg_ext.images.samples import folded_name
from paddleseg_ext.inference.pipeline import Prediction

IMAGE_SUFFIX = "_leftImg8bit"


class Submission:
    """Writes one PNG for each image, all into one folder, ready to be zipped."""

    def __init__(self, folder: Path, table: ClassTable, images: Iterable[Path]):
        """
        Args:
            folder: that the PNGs go to.
            table: of the predictions.
            images: all that will be predicted, `CITY_SEQUENCE_FRAME_leftImg8bit.png`.

        Raises:
            UsageError: the classes are not Cityscapes' 19, or the server would not know a name,
                or two images have one name.
        """
        if table.class_names != CITYSCAPES.class_names:
            raise UsageError(
                f"--save_submission is for Cityscapes' 19 classes; this data set is {table.name} "
                f"with {table.num_classes}"
            )
        self._folder = folder
        self._label_ids = np.zeros(256, np.uint8)
        self._label_ids[: len(CITYSCAPES_RAW_IDS)] = CITYSCAPES_RAW_IDS
        known: dict[str, Path] = {}
        for image in images:
            if not image.stem.endswith(IMAGE_SUFFIX) or len(image.stem.split("_")) < 4:
                raise UsageError(
                    f"{image}: --save_submission needs Cityscapes' names "
                    f"(CITY_SEQUENCE_FRAME{IMAGE_SUFFIX}.png)"
                )
            other = known.setdefault(folded_name(image.stem), image)
            if other is not image:
                raise UsageError(f"--save_submission: {image} and {other} share a name")

    def path_of(self, image: Path) -> Path:
        """Where an image's label ids go."""
        return self._folder / f"{image.stem}.png"

    def add(self, image: Path, label_map: NDArray[np.uint8]) -> Path:
        """Write the (H, W) train ids of one image as label ids; returns the file."""
        path = self.path_of(image)
        write_png(path, cv2.LUT(label_map, self._label_ids))
        return path

    def add_all(self, predictions: Iterable[Prediction]) -> int:
        """Write predictions of images that have no labels; returns how many.

        Raises:
            CheckFailed: an image has no prediction, and a submission must be whole; the others are
                written.
        """
        count, errors = 0, list[str]()
        for prediction in predictions:
            try:
                if prediction.label_map is None:
                    raise DataError(prediction.error or f"{prediction.sample.image}: no prediction")
                with failing_alone():
                    self.add(prediction.sample.image, prediction.label_map)
                count += 1
            except DataError as error:
                errors.append(str(error))
                log(errors[-1], "ERROR")
        if errors:
            raise CheckFailed(
                f"{len(errors)} of {count + len(errors)} images are missing in the submission"
            )
        return count
