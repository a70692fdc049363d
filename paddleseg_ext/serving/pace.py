"""Time of the network for the largest image: a deadline that it exceeds is known at the start."""

import math
import time

import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.inference.engines.base import probe_batch
from paddleseg_ext.inference.predictor import Predictor

PROBE_SIDE = 512  # pixels; larger images are calculated from it
STRIDE = 64  # a multiple of every network's stride


def seconds_for(pixels: int, predictor: Predictor) -> float | None:
    """Seconds that the network takes for an image of so many pixels; it runs twice.

    None where the transforms refuse an image of that size. A graph of one size is timed at it.
    """
    side = max(STRIDE, int(math.sqrt(pixels)) // STRIDE * STRIDE)
    try:
        height, width = predictor.preprocess.network_hw((side, side))
    except DataError:
        return None
    shape = predictor.bundle.input_shape if predictor.bundle else None
    dtype = str(predictor.preprocess.input_dtype)
    scale = 1.0
    if any(size is not None and size > 0 for size in (shape or [])[2:]):
        batch = probe_batch(shape, dtype)
    else:
        if height * width > PROBE_SIDE**2:
            scale = height * width / PROBE_SIDE**2
            height = width = PROBE_SIDE
        batch = np.zeros((1, predictor.preprocess.channels, height, width), dtype)
    predictor.engine.run(batch)  # prepares for this size
    start = time.perf_counter()
    predictor.engine.run(batch)
    return (time.perf_counter() - start) * scale
