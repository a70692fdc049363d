"""Which of several runtimes to take: by rounds, and never by less than their spread."""

import numpy as np
import pytest

from paddleseg_ext.evaluation.turns import Measured, advice, equals_of_fastest, preferred, share_of

ROUNDS = 20
# The machine is busy in some rounds, and every runtime is slower in them.
LOAD = np.where(np.arange(ROUNDS) % 5 == 0, 3.0, 1.0)
JITTER = np.tile([0.98, 1.02], ROUNDS // 2)


def measured(name: str, ms: float, **more: object) -> Measured:
    precision = name.rpartition("_")[2] if "_" in name else "fp32"
    jitter = JITTER if len(name) % 2 else JITTER[::-1]
    seconds = ms / 1000 * LOAD * jitter
    return Measured(name, precision, list(seconds), **({"passed": True} | more))  # type: ignore[arg-type]


PADDLE = measured("paddle", 50, different=0.0)
ORT = measured("onnxruntime", 40, different=1e-6)
OPENVINO = measured("openvino", 40.3, different=1e-6)
BF16 = measured("openvino_bf16", 20, different=0.004)
INT8 = measured("openvino_int8", 15.4, different=0.006)


def test_what_differs_by_less_than_its_spread_is_equal() -> None:
    assert ORT.is_equal_to(OPENVINO) and OPENVINO.is_equal_to(ORT)
    assert not ORT.is_equal_to(PADDLE) and not PADDLE.is_equal_to(ORT)
    names = [each.name for each in equals_of_fastest([PADDLE, ORT, OPENVINO])]
    assert names == ["onnxruntime", "openvino"]


@pytest.mark.parametrize(
    ("kept", "taken"),
    [("", "onnxruntime"), ("openvino", "openvino"), ("onnxruntime", "onnxruntime")],
)
def test_among_equals_the_one_that_was_taken_stays(kept: str, taken: str) -> None:
    for order in ([PADDLE, ORT, OPENVINO], [ORT, OPENVINO, PADDLE]):
        chosen = preferred(order, kept)
        assert chosen is not None and chosen.name == taken


def test_a_slower_one_does_not_stay_and_fp32_comes_first_among_equals() -> None:
    assert preferred([PADDLE, ORT], "paddle") is ORT
    int8 = measured("onnxruntime_int8", 40.2)
    assert preferred([int8, ORT]) is ORT


def test_one_line_says_what_to_take() -> None:
    assert advice([PADDLE, ORT, BF16, INT8]) == (
        "take openvino_int8: 2.6 times as fast as FP32 (onnxruntime), 0.6% of the pixels differ; "
        "fastest without calibration: openvino_bf16"
    )
    assert advice([PADDLE, ORT, OPENVINO], "openvino") == (
        "take openvino: 1.2 times as fast as paddle, below 0.1% of the pixels differ; "
        "equal within the spread: onnxruntime"
    )
    assert advice([PADDLE]) == "take paddle, none of the pixels differ"


def test_what_is_not_known_to_be_right_is_not_taken() -> None:
    wrong = measured("openvino_int8", 10, passed=False)
    unknown = measured("onnxruntime_int8", 9, passed=None)
    assert preferred([PADDLE, wrong, unknown]) is PADDLE
    assert advice([wrong, unknown]).startswith("take none: ")


def test_words() -> None:
    assert share_of(0.0) == "none" and share_of(1e-7) == "below 0.1%" and share_of(0.0123) == "1.2%"
    assert Measured("x", "fp32", [0.01, 0.02, 0.03]).milliseconds() == (
        "p50 20.0, p90 28.0, p99 29.8 ms"
    )
