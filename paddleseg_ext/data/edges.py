"""Maps of where classes meet, for losses of edge heads."""

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS = 2.0  # pixels, PaddleSeg's


def edge_map(
    label: NDArray[np.integer], num_classes: int, radius: float = RADIUS
) -> NDArray[np.uint8]:
    """(1, H, W) 1 at pixels nearer than `radius` to another class or the image's border, else 0.

    Pixels that are ignored have no class; beside one, a class ends.

    Source: PaddleSeg 2.8, transforms/functional.py, mask_to_binary_edge.
    """
    edges = np.zeros(label.shape, bool)
    for index in np.unique(label):
        if not 0 <= index < num_classes:
            continue
        inside = np.pad(label == index, 1).astype(np.uint8)
        for mask in (inside, 1 - inside):
            distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
            edges |= (distance > 0) & (distance <= radius)
    return edges[None].astype(np.uint8)
