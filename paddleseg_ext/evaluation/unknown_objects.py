"""Class statistics of training images, and how well three scores notice unknown objects."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.evaluation.drawn_pixels import (
    PIXELS,
    drawn,
    logits_of,
    pixels_of_images,
    predictions_of,
)
from paddleseg_ext.images.labels import ClassTable, decode_unknown
from paddleseg_ext.inference.calibration import ClassStatistics
from paddleseg_ext.inference.pipeline import Prediction, SampleLike
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.bootstrap import CONFIDENCE
from paddleseg_ext.scoring.detection import RECALL, detection
from paddleseg_ext.scoring.reliability import FEWEST_OF_CLASS, softmax_rows


def class_statistics(predictor: Predictor, samples: Sequence[SampleLike]) -> ClassStatistics:
    """The statistics of the largest logits of labelled training pixels, drawn at random.

    A class that is predicted at fewer than `FEWEST_OF_CLASS` of them has those of all pixels.

    Raises:
        DataError: an image or label that cannot be read.
        UsageError: no labelled pixel.
    """
    pixels = pixels_of_images(predictor, samples, "--train_data")
    largest, best = pixels.logits.max(axis=1).astype(np.float64), pixels.best
    means, deviations = [], []
    for number in range(pixels.logits.shape[1]):
        of_class = largest[best == number]
        chosen = of_class if len(of_class) >= FEWEST_OF_CLASS else largest
        means.append(float(chosen.mean()))
        deviations.append(max(float(chosen.std()), float(np.finfo(np.float32).tiny)))
    return ClassStatistics(means, deviations, pixels.num_images, len(largest))


def measure_unknown(
    predictor: Predictor,
    samples: Sequence[SampleLike],
    statistics: ClassStatistics | None,
    resamples: int,
) -> dict[str, Any]:
    """AUROC and false alarms of largest softmax, largest logit and familiarity; logs them.

    Args:
        predictor: of a bundle that returns logits.
        samples: whose labels have the class table's value of unknown pixels where objects are that
            training never saw.
        statistics: for the familiarity, which is left out without them.
        resamples: draws of images for the intervals.

    Raises:
        DataError: an image or label that cannot be read.
        UsageError: no unknown or no known pixel in all of them.
    """
    table = predictor.class_table.with_unknown()
    parts = list(_drawn_of_both(predictor, samples, table))
    logits = np.concatenate([part[0] for part in parts])
    is_unknown = np.concatenate([part[1] for part in parts])
    image_of = np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts])
    for kind, count in (("unknown", is_unknown.sum()), ("known", (~is_unknown).sum())):
        if not count:
            raise UsageError(
                f"--unknown_data: {kind} pixels are expected (value {table.unknown} in labels is "
                f"unknown), got none in {len(samples)} labels, the first is {samples[0].label}"
            )
    largest, best = logits.max(axis=1), logits.argmax(axis=1)
    scores = {"largest softmax": softmax_rows(logits).max(axis=1), "largest logit": largest}
    if statistics is not None:
        scores["familiarity"] = statistics.familiarity(largest, best)
    found: dict[str, Any] = {"images": len(parts), "unknown_pixels": int(is_unknown.sum())}
    log(
        f"unknown objects in {len(parts)} images, with {CONFIDENCE:.0%} intervals over images: "
        f"AUROC, and the share of known pixels that is flagged with {RECALL:.0%} of the unknown"
    )
    for name, values in scores.items():
        result = detection(values, is_unknown, image_of, resamples)
        log(f"  {name}: {result.auroc.words()}, {result.false_alarms.words()}")
        found[name.replace(" ", "_")] = result.to_dict()
    return found


def _drawn_of_both(
    predictor: Predictor, samples: Sequence[SampleLike], table: ClassTable
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    most = max(1, PIXELS // max(1, len(samples)))
    finish = partial(_of_image, predictor=predictor, table=table, most=most)
    for prediction in predictions_of(predictor, samples, finish):
        yield prediction.finished


def _of_image(
    prediction: Prediction, predictor: Predictor, table: ClassTable, most: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    assert prediction.sample.label is not None
    label, is_unknown = decode_unknown(prediction.sample.label, table)
    flat = logits_of(prediction, predictor, label.shape)
    places = [drawn(mask, most) for mask in (label < table.num_classes, is_unknown)]
    logits = np.ascontiguousarray(flat[:, np.concatenate(places)].T)
    return logits, np.repeat([False, True], [len(each) for each in places])
