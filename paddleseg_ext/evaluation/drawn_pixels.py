"""Logits of labelled pixels that are drawn at random from images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import require_image_size
from paddleseg_ext.images.labels import decode_label
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.calibration_intervals import JudgedPixels

PIXELS = 100_000  # of some images together


@dataclass(frozen=True)
class DrawnPixels(JudgedPixels):
    """Also their (N, C) float32 logits."""

    logits: NDArray[np.float32]

    @property
    def best(self) -> NDArray[np.intp]:
        """(N,) class of the largest logit."""
        return self.logits.argmax(axis=1)


def pixels_of_images(
    predictor: Predictor, samples: Sequence[SampleLike], where: str
) -> DrawnPixels:
    """At most `PIXELS` labelled pixels, as many of each image, without repetition.

    Args:
        predictor: of a graph that returns logits.
        samples: with labels.
        where: the flag that named the samples, for messages.

    Raises:
        DataError: the first image or label that cannot be read.
        UsageError: none of the labels has a pixel of a class.
    """
    most = max(1, PIXELS // max(1, len(samples)))
    finish = partial(_of_image, predictor=predictor, most=most)
    parts = [p.finished for p in predictions_of(predictor, samples, finish)]
    parts = [part for part in parts if len(part[1])]
    if not parts:
        raise UsageError(
            f"{where}: pixels of classes are expected, the {len(samples)} labels have ignored ones "
            f"only, the first is {samples[0].label}; list other images"
        )
    labels = np.concatenate([part[1] for part in parts])
    image_of = np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts])
    return DrawnPixels(labels, image_of, np.concatenate([part[0] for part in parts]))


def predictions_of(
    predictor: Predictor, samples: Sequence[SampleLike], finish: Callable[[Prediction], Any]
) -> Iterator[Prediction]:
    """The predictions of samples, finished, with a progress bar.

    Raises:
        DataError: the first sample that fails.
    """
    options = StreamOptions(keep_output=True, finish=finish, num_workers=1)
    predictions = predictor.stream(samples, options)
    for prediction in track(predictions, "calibrate", total=len(samples)):
        if prediction.error is not None:
            raise DataError(prediction.error)
        yield prediction


def logits_of(
    prediction: Prediction, predictor: Predictor, label_hw: tuple[int, ...]
) -> NDArray[np.float32]:
    """(C, H * W) logits at the original size, which is the label's.

    Raises:
        DataError: the label has another size.
    """
    assert prediction.output is not None and prediction.geometry is not None
    logits = predictor.postprocess.full_logits(prediction.output, prediction.geometry)
    require_image_size(prediction.sample, label_hw, logits.shape[1:])
    return logits.reshape(len(logits), -1)


def drawn(mask: NDArray[np.bool_], most: int) -> NDArray[np.intp]:
    """Flat places of at most so many pixels of a mask; equal masks give equal places."""
    places = np.flatnonzero(mask)
    if len(places) > most:
        places = np.random.default_rng(len(places)).choice(places, most, replace=False)
    return places


def _of_image(
    prediction: Prediction, predictor: Predictor, most: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    assert prediction.sample.label is not None
    label = decode_label(prediction.sample.label, predictor.class_table)
    flat = logits_of(prediction, predictor, label.shape)
    places = drawn(label < predictor.class_table.num_classes, most)
    return np.ascontiguousarray(flat[:, places].T), label.ravel()[places]
