"""Distillation: a network is trained to give the logits of another one, its teacher.

Papers: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction (ICCV 2021,
https://arxiv.org/abs/2011.13256); Hinton et al., Distilling the Knowledge in a Neural Network
(https://arxiv.org/abs/1503.02531), pixel by pixel as Liu et al., Structured Knowledge Distillation
for Semantic Segmentation (CVPR 2019). Source: irfanICMLL/TorchDistiller SemSeg-distill
utils/criterion.py, CriterionCWD with `norm_type` channel and spatial, `divergence` kl.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError, check_choice
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.registry import DISTILLATION_LOSSES, PADDLESEG_PREFIX, build

# Of PaddleSeg's losses those that take the logits of two networks.
OF_PADDLESEG = ("KLLoss", "DistillCrossEntropyLoss")


class _KLLoss(nn.Layer):
    """Base: T^2 times a mean of divergences KL(teacher || student) of softmax(logits / T)."""

    def __init__(self, temperature: float):
        super().__init__()
        is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not is_number or not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a number above 0, got {temperature!r}")
        self.temperature = float(temperature)

    def divergences(self, student: Tensor, teacher: Tensor, axis: int) -> Tensor:
        """The divergence of each distribution along `axis`, times T^2."""
        ours = _log_softmax(student / self.temperature, axis)
        theirs = _log_softmax(teacher / self.temperature, axis)
        return (theirs.exp() * (theirs - ours)).sum(axis=axis) * self.temperature**2


def _log_softmax(logits: Tensor, axis: int) -> Tensor:
    """F.log_softmax, which on a CPU takes 300 times as long over 50,000 pixels (Paddle 3.2.2)."""
    return logits - logits.logsumexp(axis=axis, keepdim=True)


class ChannelWiseKLLoss(_KLLoss):
    """Mean over images and classes of the divergence of where in the image each class is seen."""

    def __init__(self, temperature: float = 4.0):
        """
        Args:
            temperature: T, above 0; the paper's is 4.

        Raises:
            ValueError: `temperature` is out of range.
        """
        super().__init__(temperature)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Loss, a scalar, of two `(N, C, H, W)` logits; all pixels count, `labels` do not."""
        return self.divergences(student.flatten(2), teacher.flatten(2), axis=2).mean()


class PixelWiseKLLoss(_KLLoss):
    """Mean over all pixels of the divergence of their classes."""

    def __init__(self, temperature: float = 1.0):
        """
        Args:
            temperature: T, above 0.

        Raises:
            ValueError: `temperature` is out of range.
        """
        super().__init__(temperature)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Loss, a scalar, of two `(N, C, H, W)` logits; all pixels count, `labels` do not."""
        return self.divergences(student, teacher, axis=1).mean()


@dataclass(frozen=True)
class Term:
    """One loss between heads of the two networks.

    Attributes:
        spec: `type` and arguments of the loss.
        weight: its factor.
        head: number of the head in both networks, 0 for the main head.
        where: the place in the yml, for messages.
    """

    spec: Mapping[str, Any]
    weight: float
    head: int
    where: str


class DistillationLoss(nn.Layer):
    """Weighted sum of losses between the heads of a student and of its teacher."""

    def __init__(self, terms: Sequence[Term], ignore_index: int):
        """
        Args:
            terms: the parts.
            ignore_index: the label of pixels without loss, for PaddleSeg's losses.

        Raises:
            UsageError: an unknown loss, or one that does not compare two networks.
        """
        super().__init__()
        self.terms = list(terms)
        self.losses = nn.LayerList([_build_one(term, ignore_index) for term in terms])

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], labels: Tensor
    ) -> Tensor:
        """The sum, a scalar.

        Args:
            student: `(N, C, H, W)` logits, one per head in training.
            teacher: the same of the teacher, per head in evaluation, without gradients.
            labels: `(N, H, W)` int64.

        Raises:
            UsageError: a network lacks a head, or two heads have different shapes.
        """
        values = []
        with types_for(*self.losses):
            for term, loss in zip(self.terms, self.losses, strict=True):
                ours, theirs = _pair(term, student, teacher)
                values.append(loss(ours, theirs, labels) * term.weight)
        return sum(values)


def _build_one(term: Term, ignore_index: int) -> nn.Layer:
    name = str(term.spec.get("type")).removeprefix(PADDLESEG_PREFIX)
    check_choice(f"{term.where}: type", name, [*DISTILLATION_LOSSES.names, *OF_PADDLESEG])
    return build(DISTILLATION_LOSSES, term.spec, term.where, ignore_index=ignore_index)


def _pair(
    term: Term, student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The two networks' logits of a term's head."""
    for heads, whose in ((student, "the student in training"), (teacher, "the teacher")):
        if term.head >= len(heads):
            raise UsageError(
                f"{term.where}: a loss of head {term.head}, and {whose} has heads 0 to "
                f"{len(heads) - 1}"
            )
    ours, theirs = student[term.head], teacher[term.head]
    if ours.shape != theirs.shape:
        raise UsageError(
            f"{term.where}: logits of one shape are expected, (samples, classes, height, width); "
            f"the student has {tuple(ours.shape)}, the teacher {tuple(theirs.shape)}"
        )
    return ours, theirs
