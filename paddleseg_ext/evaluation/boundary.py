"""Boundary F1 and boundary IoU: how well the outlines of the classes agree.

IoU is ruled by the insides of large regions.

Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?",
BMVC 2013. A class is scored in every image whose label or prediction has it, and its score is the
mean over these images. Cheng, Girshick, Dollar, Berg, Kirillov, "Boundary IoU: Improving
Object-Centric Image Segmentation Evaluation", CVPR 2021, and its code (mask_to_boundary): there
the pixels of the whole set are counted, as for the mIoU.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.0075  # of the image's diagonal, as in the paper
BAND = (
    0.02  # width of the boundary's band within a region, of the image's diagonal, as in the paper
)


def boundary_f1(
    prediction: NDArray[np.uint8], label: NDArray[np.uint8], num_classes: int, ignore_index: int
) -> NDArray[np.float64]:
    """(C,) boundary F1 of one image; nan for a class that neither map has a boundary of.

    Outlines inside or within the tolerance of ignored pixels are not scored.

    Args:
        prediction: (H, W) class ids.
        label: (H, W) class ids or `ignore_index`.
    """
    height, width = label.shape
    reach = max(1, round(TOLERANCE * float(np.hypot(height, width))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    ignored = (label == ignore_index).astype(np.uint8)
    scored = cv2.dilate(ignored, disc) == 0 if ignored.any() else np.ones(label.shape, bool)
    result = np.full(num_classes, np.nan)
    for index in set(np.unique(label)) | set(np.unique(prediction)):
        if index == ignore_index or index >= num_classes:
            continue
        of_prediction = _outline(prediction == index) & scored
        of_label = _outline(label == index) & scored
        if of_prediction.any() or of_label.any():
            result[index] = _f1(of_prediction, of_label, disc)
    return result


def boundary_pixels(
    prediction: NDArray[np.uint8], label: NDArray[np.uint8], num_classes: int, ignore_index: int
) -> NDArray[np.int64]:
    """(2, C) pixels of the bands of one image: in both maps, and in at least one of them.

    The band of a region is what an erosion by `BAND` takes away: pixels that have one outside of
    the region, or of the image, that near. Ignored pixels make no band, and are not counted.

    Args:
        prediction: (H, W) class ids.
        label: (H, W) class ids or `ignore_index`.
    """
    height, width = label.shape
    reach = max(1, round(BAND * float(np.hypot(height, width))))
    ignored = label == ignore_index
    found = np.zeros((2, num_classes), np.int64)
    for index in range(num_classes):
        masks = [each == index for each in (prediction, label)]
        if not any((mask & ~ignored).any() for mask in masks):
            continue
        first, second = (_band(mask | ignored, reach) & ~ignored for mask in masks)
        found[:, index] = np.count_nonzero(first & second), np.count_nonzero(first | second)
    return found


def _band(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inside == 0)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's pixels that have a neighbour outside it; the image's border is no outline."""
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return mask & (inside == 0)


def _f1(
    of_prediction: NDArray[np.bool_], of_label: NDArray[np.bool_], disc: NDArray[np.uint8]
) -> float:
    precision = _share_near(of_prediction, of_label, disc)
    recall = _share_near(of_label, of_prediction, disc)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_near(
    points: NDArray[np.bool_], others: NDArray[np.bool_], disc: NDArray[np.uint8]
) -> float:
    total = int(points.sum())
    if total == 0:
        return 0.0
    near = cv2.dilate(others.astype(np.uint8), disc) > 0
    return int((points & near).sum()) / total
