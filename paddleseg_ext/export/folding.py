"""Normalisation moved into the network, which then takes the image's bytes; only a resize is left
to preprocessing.

`(x / 255 - mean) / std` ahead of a convolution is `x - 255 mean` ahead of one whose weights are
divided by `255 std`. The mean is subtracted rather than put into the bias, because convolutions pad
with zeros *after* the normalisation: a bias would be right inside the image and wrong along its
borders.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.inference.preprocess import ImageNormalize

BYTE = 255.0
PROBE_HW = (64, 96)
AGREEMENT = 1e-4  # of the largest |logit|


class BytesNetwork(nn.Layer):
    """A network of (N, C, H, W) uint8 that returns the original's output for them normalised.

    Attributes:
        network: the copy that is called.
        mean: (1, C, 1, 1), in pixel values.
        factor: (1, C, 1, 1); None where the convolutions contain it.
    """

    def __init__(self, network: nn.Layer, mean: NDArray, factor: NDArray | None):
        super().__init__()
        self.network = network
        self.register_buffer("mean", paddle.to_tensor(mean))
        self.register_buffer("factor", None if factor is None else paddle.to_tensor(factor))

    def forward(self, images: Tensor) -> Any:
        """Output of the network."""
        centred = images.astype("float32") - self.mean
        return self.network(centred if self.factor is None else centred * self.factor)


def split_normalize(
    transforms: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], ImageNormalize]:
    """The transforms without the Normalize that ends them, and that Normalize.

    Raises:
        UsageError: they do not end in their only Normalize, or pad with a value that is no byte.
    """
    names = [str(spec.get("type")).removeprefix("paddleseg.") for spec in transforms]
    if names.count("Normalize") != 1 or names[-1] != "Normalize":
        raise UsageError(
            "--fold_normalize True: validation transforms that end in their only Normalize are "
            f"expected, got {', '.join(names) or 'none'}"
        )
    for name, spec in zip(names, transforms, strict=True):
        value = spec.get("im_padding_value", 127.5)
        if name == "Padding" and value != int(value):
            raise UsageError(
                f"--fold_normalize True: Padding fills with {value}, which is no byte; "
                "set im_padding_value to a whole number"
            )
    arguments = {key: value for key, value in transforms[-1].items() if key != "type"}
    return list(transforms[:-1]), ImageNormalize(**arguments)


def fold_normalize(model: nn.Layer, normalize: ImageNormalize, channels: int = 3) -> BytesNetwork:
    """Returns a copy of `model` that takes bytes.

    The factor goes into the convolutions that read the image. Where another layer reads it, too,
    the output would differ; the factor then stays a multiplication, and the log says so.
    """
    mean = np.reshape(np.asarray(normalize.mean, np.float32) * BYTE, (1, 3, 1, 1))[:, :channels]
    scale = np.reshape(1 / (BYTE * np.asarray(normalize.std, np.float32)), (1, 3, 1, 1))
    factor = scale.astype(np.float32)[:, :channels]
    folded = copy.deepcopy(model)
    folded.eval()
    for convolution in _first_convolutions(folded, channels):
        convolution.weight.set_value(convolution.weight * paddle.to_tensor(factor))
    network = BytesNetwork(folded, mean, None)
    network.eval()
    if _agree(network, model, normalize, channels):
        return network
    log("--fold_normalize: not only convolutions read the image; its scale stays a multiplication")
    network = BytesNetwork(copy.deepcopy(model), mean, factor)
    network.eval()
    return network


def _first_convolutions(model: nn.Layer, channels: int) -> list[nn.Conv2D]:
    """The convolutions whose input is the image tensor itself, each once."""
    images = paddle.zeros([1, channels, *PROBE_HW])
    found: list[nn.Conv2D] = []

    def note(layer: nn.Conv2D, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0] is images and not any(layer is other for other in found):
            found.append(layer)

    convolutions = [layer for layer in model.sublayers() if isinstance(layer, nn.Conv2D)]
    hooks = [layer.register_forward_pre_hook(note) for layer in convolutions]
    with paddle.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    # The weights of a grouped convolution have fewer channels than the factor.
    return [layer for layer in found if layer.weight.shape[1] == channels]


def _agree(
    network: BytesNetwork, model: nn.Layer, normalize: ImageNormalize, channels: int
) -> bool:
    shape = (1, channels, *PROBE_HW)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    was_training = model.training
    model.eval()
    with paddle.no_grad():
        got = network(paddle.to_tensor(pixels))[0].numpy()
        expected = model(paddle.to_tensor(normalize_batch(pixels, normalize)))[0].numpy()
    if was_training:
        model.train()
    return bool(np.abs(got - expected).max() <= AGREEMENT * max(1.0, np.abs(expected).max()))


def normalize_batch(batch: NDArray, normalize: ImageNormalize | None) -> NDArray[np.float32]:
    """The original network's input of (N, C, H, W) bytes; without `normalize`, `batch` itself."""
    if normalize is None:
        return batch
    images = np.stack(
        [normalize(image.astype(np.float32)) for image in batch.transpose(0, 2, 3, 1)]
    )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
