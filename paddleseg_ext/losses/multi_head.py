"""The `loss:` section of a yml: one loss and one weight per head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.config import Config
from paddleseg_ext.losses.pixel import check_weights
from paddleseg_ext.registry import (
    LOSSES,
    MODELS,
    build,
    has_arguments,
    means_paddlesegs,
)


class MultiHeadLoss(nn.Layer):
    """Weighted sum of one loss per head, main head first."""

    def __init__(self, losses: Sequence[nn.Layer], weights: Sequence[float]):
        super().__init__()
        self.losses = nn.LayerList(losses)
        self.weights = list(weights)
        self._parts = [
            part for loss in self.losses for part in (loss, *getattr(loss, "losses", ()))
        ]

    def forward(
        self, heads: Sequence[Any], labels: Tensor, edges: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The total and the unweighted loss of each head, scalars.

        Args:
            heads: one `(N, C, H, W)` tensor per head, as `model(images)` returns them; what some
                networks of PaddleSeg give their own losses in place of one is passed on.
            labels: `(N, H, W)` int64.
            edges: of the labels, int64 0 and 1, for losses with `edge_label`.

        Raises:
            UsageError: the network has another number of heads than the yml has losses, or a loss
                needs what is not there.
        """
        if len(heads) != len(self.losses):
            raise UsageError(
                f"loss: the network has {len(heads)} heads in training, "
                f"loss.coef has {len(self.losses)} weights; one per head is expected"
            )
        step = _Step(heads, labels, edges)
        with types_for(*self._parts):
            values = [
                step.value(loss, logits) for loss, logits in zip(self.losses, heads, strict=True)
            ]
        total = sum(w * v for w, v in zip(self.weights, values, strict=True))
        return total, values


@dataclass(frozen=True)
class _Step:
    """Inputs of the losses of one step, and which of PaddleSeg's losses take which.

    Source: PaddleSeg core/train.py, loss_computation.
    """

    heads: Sequence[Any]
    labels: Tensor
    edges: Tensor | None

    def value(self, loss: Any, logits: Any) -> Tensor:
        """The loss of one head, a scalar."""
        kind = type(loss).__name__
        if kind == "MixedLoss":  # of PaddleSeg: other losses, mixtures too, and their weights
            parts = zip(loss.losses, loss.coef, strict=True)
            return sum(self.value(part, logits) * weight for part, weight in parts)
        if kind == "KLLoss":
            if len(self.heads) < 2:
                raise UsageError(
                    "loss: KLLoss compares the first two heads, and the network has one"
                )
            return loss(self.heads[0], self.heads[1].detach())
        if getattr(loss, "edge_label", False):
            if self.edges is None:
                raise UsageError(
                    f"loss: {kind} with 'edge_label' needs a map of the labels' edges: set "
                    "'edge: True' in train_dataset"
                )
            return loss(logits, self.edges)
        if kind == "MaskFormerLoss":
            return loss(logits, class_masks(self.labels, loss.ignore_index))
        return _scalar(loss(logits, self.labels))


class _OfImages:
    """A tensor per image, to be indexed as a batch: `batch[0, ...]`."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.shape = [len(tensors)]
        self._tensors = tensors

    def __getitem__(self, key: tuple[Any, ...]) -> Tensor:
        return self._tensors[key[0]]


def class_masks(labels: Tensor, ignore_index: int) -> dict[str, _OfImages]:
    """The classes of each image and their masks, as MaskFormerLoss takes them.

    PaddleSeg makes them in a transform, GenerateInstanceTargets: of labels that ADE20K shifts
    later, and padded to all classes, where NumPy 2 fails in its loss. Here nothing is padded.

    Args:
        labels: `(N, H, W)` int64.
        ignore_index: no class in `labels`.

    Returns:
        `gt_classes`, `(K,)` int64 per image, and `gt_masks`, `(K, H, W)` float32 of 0 and 1.
    """
    found = [np.unique(label) for label in labels.numpy()]
    classes = [paddle.to_tensor(each[each != ignore_index], "int64") for each in found]
    masks = [
        (label == own.unsqueeze([1, 2])).astype("float32")
        for label, own in zip(labels, classes, strict=True)
    ]
    return {"gt_classes": _OfImages(classes), "gt_masks": _OfImages(masks)}


def _scalar(value: Tensor | Sequence[Tensor]) -> Tensor:
    """The sum of a loss's parts, which composed losses may return."""
    return sum(map(_scalar, value)) if isinstance(value, list | tuple) else value


def build_loss(config: Config, ignore_index: int, num_classes: int | None = None) -> MultiHeadLoss:
    """Builds the losses of `loss:` (`types`, `coef`); a single type is used for every head.

    Args:
        config: the configuration.
        ignore_index: the label of pixels without loss.
        num_classes: of the labels. Where it is given, a loss must ignore `ignore_index` or a class.

    Raises:
        UsageError: keys missing, of the wrong kind, or of different lengths.
    """
    section: dict[str, Any] = config.loss
    types = section.get("types")
    if not isinstance(types, list) or not types:
        raise UsageError("loss: 'types' must be a list of losses")
    weights = check_weights(section.get("coef"), "loss: 'coef'", "head")
    if len(types) == 1:
        types = types * len(weights)
    if len(types) != len(weights):
        raise UsageError(f"loss: {len(types)} types but {len(weights)} weights in 'coef'")
    losses = [
        _build_one(spec, f"loss.types[{i}]", config, ignore_index, num_classes)
        for i, spec in enumerate(types)
    ]
    return MultiHeadLoss(losses, weights)


def _build_one(
    spec: Any, where: str, config: Config, ignore_index: int, num_classes: int | None
) -> nn.Layer:
    """Builds one loss; PaddleSeg's MixedLoss has others in `losses`."""
    if isinstance(spec, dict):
        given = spec.get("ignore_index", ignore_index)
        if num_classes is not None and given not in (ignore_index, *range(num_classes)):
            raise UsageError(
                f"{where}: ignore_index is {given}, but ignored pixels are read as "
                f"{ignore_index}; leave it out"
            )
        _check_class_weights(spec, where, num_classes)
    if isinstance(spec, dict) and isinstance(spec.get("losses"), list):
        inner = [
            _build_one(part, f"{where}.losses[{i}]", config, ignore_index, num_classes)
            for i, part in enumerate(spec["losses"])
        ]
        check_weights(spec.get("coef"), f"{where}: 'coef'", "loss")
        spec = {**spec, "losses": inner}
    theirs = config.only_paddleseg or _is_paddlesegs(spec, config)
    return build(LOSSES, spec, where, theirs, ignore_index=ignore_index)


def _is_paddlesegs(spec: Any, config: Config) -> bool:
    """Whether PaddleSeg's loss is meant where both have one of the name: for its networks."""
    kind = spec.get("type") if isinstance(spec, dict) else None
    model = config.raw.get("model")
    return (
        isinstance(kind, str)
        and isinstance(model, dict)
        and means_paddlesegs(MODELS, model)
        and LOSSES.is_in_paddleseg(kind)
        and has_arguments(LOSSES, spec)
    )


def _check_class_weights(spec: dict[str, Any], where: str, num_classes: int | None) -> None:
    """Refuse a `weight:` that is no list of one weight per class.

    PaddleSeg's BCELoss, which has no classes, takes the word 'dynamic'.
    """
    kind, weight = str(spec.get("type")), spec.get("weight")
    if weight is None or kind.removeprefix("paddleseg.") == "BCELoss":
        return
    count = len(check_weights(weight, f"{where}: {kind}: 'weight'", "class"))
    if num_classes not in (None, count):
        raise UsageError(f"{where}: {kind}: 'weight' has {count} numbers for {num_classes} classes")
