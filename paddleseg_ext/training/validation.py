"""Evaluation while training: the same path as `val`, and pictures for VisualDL."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2
import numpy as np
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.distributed.world import World, share_statistics
from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.evaluation.evaluator import Evaluation, EvaluationOptions, evaluate
from paddleseg_ext.evaluation.gather import gather
from paddleseg_ext.evaluation.protocols import check_protocol
from paddleseg_ext.images.labels import decode_label
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.scoring.metrics import AbsentRule
from paddleseg_ext.scoring.protocols import Protocol
from paddleseg_ext.training.monitor import Monitor
from paddleseg_ext.training.plan import TrainingPlan

PICTURED_SAMPLES = 2
PICTURE_WIDTH = 1024


@dataclass(frozen=True)
class Validation:
    """Scores a network as `val` does. Every process calls it and scores its share.

    Attributes:
        dataset: with `samples` and `class_table` (`data.datasets`).
        preprocess: the validation transforms.
        protocols: that can be asked for, by name; None is the name of `test_config:`'s.
        absent: how a class absent from labels and predictions counts in means.
        world: this process among those of the run.
    """

    dataset: Any
    preprocess: Preprocess
    protocols: Mapping[str | None, Protocol]
    absent: AbsentRule
    world: World

    def __call__(
        self, model: nn.Layer, monitor: Monitor, iteration: int, protocol: str | None
    ) -> Evaluation:
        """The scores of all samples, in every process; the first process logs them.

        Args:
            model: the network.
            monitor: gets a few pictures where it shows any.
            iteration: of the weights.
            protocol: a name of `protocols`.
        """
        share_statistics(model, self.world)
        predictor = Predictor(
            EagerEngine(model), self.preprocess, Postprocess(), self.dataset.class_table
        )
        if monitor.shows_pictures:
            self._show_pictures(predictor, monitor, iteration)
        options = EvaluationOptions(
            absent=self.absent,
            protocol=self.protocols[protocol],
            show_progress=self.world.is_first,
            print_scores=False,
        )
        part = evaluate(predictor, self.world.share_of(self.dataset.samples), options)
        evaluation = gather(part, self.world, [sample.name for sample in self.dataset.samples])
        evaluation.require_labelled()
        if self.world.is_first:
            evaluation.print_lines()
        return evaluation

    def _show_pictures(self, predictor: Predictor, monitor: Monitor, iteration: int) -> None:
        """Image, label and prediction of the first samples, side by side."""
        samples = islice(self.dataset.samples, PICTURED_SAMPLES)
        table = self.dataset.class_table
        for prediction in predictor.stream(samples):
            if prediction.segmentation is None:
                continue
            parts = [prediction.segmentation.image]
            if prediction.sample.label is not None:
                parts.append(table.paint(decode_label(prediction.sample.label, table)))
            parts.append(table.paint(prediction.segmentation.label_map))
            picture = _thumbnail(np.hstack(parts))
            monitor.picture(f"Evaluate/{prediction.sample.name}", picture, iteration)


def make_validation(plan: TrainingPlan, dataset: Any, num_classes: int, world: World) -> Validation:
    """The validation of a training.

    Args:
        plan: the `val_dataset.transforms` of its yml must be ones that inference has, too.
        dataset: that is scored.
        num_classes: of the network.
        world: this process among those of the run.

    Raises:
        UsageError: a transform that inference does not have, a protocol that it forbids, or other
            classes than the network's.
    """
    transforms = plan.config.val_dataset.get("transforms") or []
    config = plan.config
    preprocess = Preprocess(
        transforms, orientation=config.orientation, channels=config.img_channels
    )
    for protocol in plan.protocols.values():
        check_protocol(protocol, preprocess)
    if dataset.class_table.num_classes != num_classes:
        raise UsageError(
            f"val_dataset has {dataset.class_table.num_classes} classes, train_dataset "
            f"{num_classes}: a network is trained on the one and scored on the other, so they must "
            "be the same"
        )
    return Validation(dataset, preprocess, plan.protocols, plan.config.absent_class, world)


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """`picture` at most `PICTURE_WIDTH` wide: a log of full-size pictures grows by gigabytes."""
    height, width = picture.shape[:2]
    if width <= PICTURE_WIDTH:
        return picture
    size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
