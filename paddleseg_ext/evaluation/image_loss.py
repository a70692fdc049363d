"""The cross entropy of an image, by which a report ranks images."""

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Geometry
from paddleseg_ext.scoring.protocols import Protocol


def gives_logits(protocol: Protocol) -> bool:
    """Whether what a protocol compares are logits of one look, whose loss is the network's."""
    one_look = len(protocol.scales) == 1 and not protocol.flip
    averaged = protocol.windows is None or protocol.windows.average
    return protocol.merge == "logits" and one_look and averaged


def image_loss(
    output: NDArray[np.float32],
    geometry: Geometry,
    label: NDArray[np.uint8],
    ignore_index: int,
    postprocess: Postprocess,
) -> float:
    """The mean cross entropy of the labelled pixels at the original size; nan where there are none.

    One class at a time: the logits at full size are never held all at once.

    Args:
        output: (C, h, w) logits of one image.
        geometry: how the image became the network's input.
        label: (H, W) classes or `ignore_index`, at the original size.
        ignore_index: the value that does not count.
        postprocess: brings scores to the original size.
    """
    scored = label != ignore_index
    if not scored.any():
        return float("nan")
    wanted = label[scored]
    own = np.zeros(wanted.shape, np.float64)
    best = np.full(wanted.shape, -np.inf)
    total = np.zeros(wanted.shape)
    for number in range(len(output)):
        plane = postprocess.full_logits(output[number : number + 1], geometry)[0][scored]
        own = np.where(wanted == number, plane, own)
        higher = np.maximum(best, plane)
        total = total * np.exp(best - higher) + np.exp(plane - higher)
        best = higher
    return float((best + np.log(total) - own).mean())
