"""How long the largest image takes: a deadline that it cannot meet is known at the start."""

import math
import time

import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Backend, probe_batch

PROBE_SIDE = 512  # pixels; what is larger is calculated from it
STRIDE = 64  # a multiple of what every network halves


def seconds_for(pixels: int, bundle: Bundle, backend: Backend) -> float | None:
    """Seconds that the network takes for an image of so many pixels; it runs twice.

    None where the bundle takes no image of that size, and the seconds of its own size where it
    takes only one.
    """
    side = max(STRIDE, int(math.sqrt(pixels)) // STRIDE * STRIDE)
    try:
        height, width = bundle.preprocess().network_hw((side, side))
    except DataError:
        return None
    sizes = list(bundle.input_shape or [])[2:]
    scale = 1.0
    if any(size is not None and size > 0 for size in sizes):
        batch = probe_batch(bundle.input_shape, bundle.input_dtype)
    else:
        probed_hw = (height, width)
        if height * width > PROBE_SIDE**2:
            probed_hw = (PROBE_SIDE, PROBE_SIDE)
            scale = height * width / PROBE_SIDE**2
        batch = np.zeros((1, 3, *probed_hw), bundle.input_dtype)
    backend.run(batch)  # prepares for this size
    start = time.perf_counter()
    backend.run(batch)
    return (time.perf_counter() - start) * scale
