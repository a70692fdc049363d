"""Losses between two networks, against the papers' formulas written out with NumPy."""

import math

import numpy as np
import paddle
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.losses.distillation import (
    ChannelWiseKLLoss,
    DistillationLoss,
    PixelWiseKLLoss,
    Term,
)

SHAPE = (2, 3, 4, 5)
LABELS = paddle.zeros([2, 4, 5], "int64")


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3.0, size=SHAPE)


def loss_of(loss, student: np.ndarray, teacher: np.ndarray) -> float:
    return float(loss(paddle.to_tensor(student), paddle.to_tensor(teacher), LABELS))


def channel_wise_by_hand(student: np.ndarray, teacher: np.ndarray, t: float) -> float:
    """Shu et al. 2021, equations 3 and 4: phi is a softmax over the W * H places of a channel."""
    total = 0.0
    for image in range(SHAPE[0]):
        for channel in range(SHAPE[1]):
            exponentials = [
                [[math.exp(x / t) for x in row] for row in each[image, channel].tolist()]
                for each in (teacher, student)
            ]
            sums = [sum(map(sum, rows)) for rows in exponentials]
            for row_t, row_s in zip(*exponentials, strict=True):
                for place_t, place_s in zip(row_t, row_s, strict=True):
                    phi_t, phi_s = place_t / sums[0], place_s / sums[1]
                    total += t**2 / SHAPE[1] * phi_t * math.log(phi_t / phi_s)
    return total / SHAPE[0]


def pixel_wise_by_hand(student: np.ndarray, teacher: np.ndarray, t: float) -> float:
    """The mean over the pixels of t^2 KL(teacher || student) of the softmax over the classes."""
    total = 0.0
    for image, row, column in np.ndindex(SHAPE[0], *SHAPE[2:]):
        p, q = (
            [math.exp(x / t) for x in each[image, :, row, column]] for each in (teacher, student)
        )
        parts = zip(p, q, strict=True)
        total += t**2 * sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in parts)
    return total / (SHAPE[0] * SHAPE[2] * SHAPE[3])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [(ChannelWiseKLLoss, channel_wise_by_hand), (PixelWiseKLLoss, pixel_wise_by_hand)],
)
def test_the_papers_formula(kind, by_hand, temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    loss = kind(temperature=temperature)
    expected = by_hand(student, teacher, temperature)
    assert expected > 0.1
    assert loss_of(loss, student, teacher) == pytest.approx(expected, rel=1e-9)
    assert loss_of(loss, teacher, teacher) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", [ChannelWiseKLLoss, PixelWiseKLLoss])
def test_only_the_student_gets_a_gradient_and_large_logits_are_finite(kind) -> None:
    student = paddle.to_tensor(logits(0) * 1e4, stop_gradient=False)
    loss = kind()(student, paddle.to_tensor(logits(1) * 1e4))
    loss.backward()
    assert np.isfinite(float(loss)) and np.isfinite(student.grad.numpy()).all()
    assert np.abs(student.grad.numpy()).max() > 0


def test_a_channel_wise_loss_ignores_an_offset_per_channel_and_a_pixel_wise_one_per_pixel() -> None:
    student, teacher = logits(0), logits(1)
    by_channel, by_pixel = np.arange(3.0).reshape(1, 3, 1, 1), np.arange(5.0).reshape(1, 1, 1, 5)
    for kind, same, other in (
        (ChannelWiseKLLoss, by_channel, by_pixel),
        (PixelWiseKLLoss, by_pixel, by_channel),
    ):
        plain = loss_of(kind(), student, teacher)
        assert loss_of(kind(), student + same, teacher) == pytest.approx(plain)
        assert abs(loss_of(kind(), student + other, teacher) - plain) > 1e-3


def test_terms_are_weighted_and_each_compares_its_head() -> None:
    heads = [[paddle.to_tensor(logits(seed)) for seed in pair] for pair in ((0, 1), (2, 3))]
    terms = [
        Term({"type": "ChannelWiseKLLoss"}, 2.0, 0, "losses[0]"),
        Term({"type": "PixelWiseKLLoss", "temperature": 2.0}, 0.5, 1, "losses[1]"),
    ]
    expected = 2.0 * channel_wise_by_hand(logits(0), logits(2), 4.0)
    expected += 0.5 * pixel_wise_by_hand(logits(1), logits(3), 2.0)
    loss = DistillationLoss(terms, ignore_index=255)
    assert float(loss(*heads, LABELS)) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(UsageError, match=r"losses\[1\].*head 1, and the teacher has heads 0 to 0"):
        loss(heads[0], heads[1][:1], LABELS)
    with pytest.raises(UsageError, match="one shape"):
        loss(heads[0], [heads[1][0][:, :2], heads[1][1]], LABELS)


def test_paddlesegs_losses_get_the_labels() -> None:
    """Its KLLoss divides by the classes, too, and leaves ignored pixels out."""
    pytest.importorskip("paddleseg")
    loss = DistillationLoss([Term({"type": "KLLoss"}, 3.0, 0, "distill_loss")], ignore_index=7)
    student, teacher = logits(0).astype("float32"), logits(1).astype("float32")
    heads = [paddle.to_tensor(student)], [paddle.to_tensor(teacher)]
    expected = 3.0 * pixel_wise_by_hand(student, teacher, 1.0) / SHAPE[1]
    assert float(loss(*heads, LABELS)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(*heads, paddle.full_like(LABELS, 7))) == 0.0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "CrossEntropyLoss"}, r"losses\[0\]: type: .*CrossEntropyLoss"),
        ({"type": "ChannelWiseKLoss"}, "did you mean 'ChannelWiseKLLoss'"),
        ({"type": "PixelWiseKLLoss", "temprature": 2}, "did you mean 'temperature'"),
        ({"type": "PixelWiseKLLoss", "temperature": 0}, "temperature must be a number above 0"),
        ({"type": "PixelWiseKLLoss", "temperature": "x"}, "temperature"),
        ({}, "type"),
    ],
)
def test_a_wrong_loss_is_one_line(spec: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        DistillationLoss([Term(spec, 1.0, 0, "distillation.losses[0]")], ignore_index=255)
    assert "\n" not in str(caught.value)
