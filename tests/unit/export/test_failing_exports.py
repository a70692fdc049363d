"""Messages about networks that cannot be exported."""

import traceback
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.export.options import ExportOptions
from paddleseg_ext.export.self_check import _make_case
from paddleseg_ext.export.tracing import TESTED_PADDLE, trace, write_graph


class Network(nn.Layer):
    """A convolution, and what a subclass does to its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2D(3, 4, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.spoil(self.convolution(images))]

    def spoil(self, logits: Tensor) -> Tensor:
        return logits


class ShapeInNumpy(Network):
    """Computes with the size in Python: a graph of any size has none."""

    def spoil(self, logits: Tensor) -> Tensor:
        return logits * float(np.zeros(logits.shape[2:]).size)


class DynamicOnly(Network):
    """Raises what it likes where it is converted."""

    def spoil(self, logits: Tensor) -> Tensor:
        if not paddle.in_dynamic_mode():
            raise KeyError("only\ndynamic")
        return logits


class Looping(Network):
    """Goes through the images of a batch in Python."""

    def spoil(self, logits: Tensor) -> Tensor:
        return paddle.stack([logits[number] for number in range(logits.shape[0])])


class Enlarged(Network):
    align_corners = False

    def spoil(self, logits: Tensor) -> Tensor:
        return nn.functional.interpolate(
            logits, scale_factor=2, mode="bilinear", align_corners=self.align_corners
        )


class Leaky(Network):
    def spoil(self, logits: Tensor) -> Tensor:
        return nn.functional.leaky_relu(logits)


class EnlargedAligned(Enlarged):
    """Its interpolation is traced as products of matrices."""

    align_corners = True


class Random(Network):
    def spoil(self, logits: Tensor) -> Tensor:
        return logits + paddle.rand(logits.shape)


class Dropping(Network):
    def spoil(self, logits: Tensor) -> Tensor:
        return nn.functional.dropout(logits, 0.5, training=True)


@pytest.mark.parametrize(
    ("network", "shape", "remedy"),
    [
        (ShapeInNumpy, (-1, 3, -1, -1), True),
        (DynamicOnly, (-1, 3, -1, -1), True),
        (Looping, (-1, 3, 8, 8), True),
        (DynamicOnly, (1, 3, 8, 8), False),
    ],
)
def test_a_conversion_that_fails_is_one_line(
    network: type[Network], shape: tuple[int, ...], remedy: bool, tmp_path: Path
) -> None:
    options = ExportOptions(tmp_path, input_shape=shape)
    with pytest.raises(CheckFailed, match=f"^{network.__name__} cannot be converted") as failed:
        trace(network(), options, tmp_path / "model")
    assert ("--input_shape 1 3 H W" in str(failed.value)) is remedy
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("network", [ShapeInNumpy, Looping])
def test_a_size_in_python_exports_where_it_is_fixed(network: type[Network], tmp_path: Path) -> None:
    options = ExportOptions(tmp_path, input_shape=(1, 3, 8, 8))
    trace(network(), options, tmp_path / "model")
    assert list(tmp_path.glob("model.*"))


def test_no_call_stack_is_taken_of_each_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large graph they took two thirds of the time."""
    taken = []
    monkeypatch.setattr(traceback, "extract_stack", lambda *args, **kwargs: taken.append(1) or [])
    trace(ShapeInNumpy(), ExportOptions(tmp_path, input_shape=(1, 3, 8, 8)), tmp_path / "model")
    assert not taken
    traceback.extract_stack()
    assert taken


@pytest.mark.parametrize("network", [Random, Dropping])
def test_a_network_that_does_not_repeat_itself_is_named(network: type[Network]) -> None:
    tensor = np.ones((3, 16, 16), np.float32)
    model = network()
    model.eval()
    with pytest.raises(CheckFailed, match=f"^{network.__name__} gives another result each time"):
        _make_case(model, tensor, (16, 16), ExportOptions(), None)


def test_one_that_repeats_itself_is_a_case() -> None:
    batch, logits = _make_case(
        Network(), np.ones((3, 16, 16), np.float32), (16, 16), ExportOptions(), None
    )
    assert batch.shape == (2, 3, 16, 16) and logits.shape == (2, 4, 16, 16)


@pytest.mark.parametrize(
    ("version", "network", "refused"),
    [
        ("3.3.0", Enlarged, "bilinear_interp"),
        ("3.3.1", Enlarged, "bilinear_interp"),
        ("3.3.1", Leaky, "leaky_relu"),
        ("3.3.1", EnlargedAligned, ""),
        ("3.3.1", Network, ""),
        ("3.2.2", Enlarged, ""),
        ("3.2.2", Leaky, ""),
    ],
)
def test_an_operator_that_onednn_of_a_release_cannot_run_is_refused(
    version: str,
    network: type[Network],
    refused: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paddle, "__version__", version)
    options = ExportOptions(tmp_path)
    model = network()
    if not refused:
        assert write_graph(model, options, None, tmp_path / "model") == "graph"
        return
    with pytest.raises(UsageError) as raised:
        write_graph(model, options, None, tmp_path / "model")
    assert str(raised.value) == (
        f"{network.__name__}: oneDNN of PaddlePaddle {version} cannot run its {refused}; export it "
        "with another release: pip install paddlepaddle==3.2.2"
    )


def test_the_release_that_is_advised_is_the_pinned_one() -> None:
    pins = (Path(__file__).resolve().parents[3] / "requirements.txt").read_text().splitlines()
    assert f"paddlepaddle=={TESTED_PADDLE}" in pins
