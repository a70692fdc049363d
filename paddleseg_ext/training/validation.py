"""Evaluation while training: the same path as `val.py`, and pictures for VisualDL."""

from itertools import islice
from typing import Any

import cv2
import numpy as np
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.distributed.world import World, share_statistics
from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.evaluation.evaluator import Evaluation, EvaluationOptions, evaluate
from paddleseg_ext.evaluation.gather import gather
from paddleseg_ext.evaluation.protocol_choice import kept_protocols, requested_protocol
from paddleseg_ext.evaluation.protocols import check_protocol
from paddleseg_ext.images.labels import decode_label
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.scoring.protocols import Protocol
from paddleseg_ext.training.monitor import Monitor
from paddleseg_ext.training.trainer import Validate

PICTURED_SAMPLES = 2
PICTURE_WIDTH = 1024


def make_validation(config: Config, dataset: Any, num_classes: int) -> Validate:
    """A function that scores a network on `dataset` as `val.py` does, by a protocol of the yml.

    Every process of the run calls it, scores its share, and returns the scores of all samples.

    Args:
        config: its `val_dataset.transforms` must be ones that inference has, too.
        dataset: with `samples` and `class_table` (`data.datasets`).
        num_classes: of the network.

    Raises:
        UsageError: a transform that inference does not have, a protocol that it forbids, or other
            classes than the network's.
    """
    preprocess = Preprocess(config.val_dataset.get("transforms") or [])
    postprocess = Postprocess()
    table = dataset.class_table
    protocols: dict[str | None, Protocol] = {None: requested_protocol(config.test_config)}
    for name, kept in kept_protocols(config.keep_best).items():
        protocols[name] = kept
    for protocol in protocols.values():
        check_protocol(protocol, preprocess)
    if table.num_classes != num_classes:
        raise UsageError(
            f"val_dataset has {table.num_classes} classes, train_dataset {num_classes}: one "
            "network is trained on the one and scored on the other, so they must be the same"
        )

    def validate(
        model: nn.Layer, monitor: Monitor, iteration: int, protocol: str | None, world: World
    ) -> Evaluation:
        share_statistics(model, world)
        predictor = Predictor(EagerEngine(model), preprocess, postprocess, table)
        if monitor.shows_pictures:
            samples = islice(dataset.samples, PICTURED_SAMPLES)
            for prediction in predictor.stream(samples):
                if prediction.segmentation is None:
                    continue
                parts, palette = [prediction.segmentation.image], table.full_palette
                if prediction.sample.label is not None:
                    parts.append(palette[decode_label(prediction.sample.label, table)])
                parts.append(palette[prediction.segmentation.label_map])
                name = prediction.sample.name
                monitor.picture(f"Evaluate/{name}", _thumbnail(np.hstack(parts)), iteration)
        part = evaluate(
            predictor,
            world.share_of(dataset.samples),
            EvaluationOptions(
                absent=config.absent_class,
                protocol=protocols[protocol],
                show_progress=world.is_first,
                print_scores=False,
            ),
        )
        evaluation = gather(part, world, [sample.name for sample in dataset.samples])
        if world.is_first:
            evaluation.print_lines()
        return evaluation

    return validate


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """`picture` at most `PICTURE_WIDTH` wide: a log of full-size pictures grows by gigabytes."""
    height, width = picture.shape[:2]
    if width <= PICTURE_WIDTH:
        return picture
    size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
