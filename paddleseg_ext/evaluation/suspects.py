"""Regions whose label is probably wrong: the network is sure, and the label says another class.

The statistic is that of confident learning, taken from images to regions of pixels. A class's
threshold is the mean probability that the network gives it on the pixels labelled so. In a
region, connected pixels, the network prefers one class and the label has others. A region is the
more suspicious the less probable its label is, the closer the network's class comes to its
threshold, and the wider it is.

Source:
    C. Northcutt, L. Jiang, I. Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels,
    JAIR 70 (2021); for pixels V. Lad, J. Mueller: Estimating label quality and errors in semantic
    segmentation data via any model (2023). The score of a region is our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.images.labels import ClassTable

FEWEST_PIXELS = 12
MOST_PER_IMAGE = 200  # regions, those with the most evidence
LEAST_PROBABILITY = 1e-3


@dataclass(frozen=True)
class Region:
    """Connected pixels in which the network prefers one class and the label has others.

    Attributes:
        image: index of the sample.
        box: x, y, width and height.
        middle: x and y of the pixel farthest from the region's border.
        pixels: number of pixels.
        radius: of the largest circle within, pixels.
        predicted: the network's class.
        labelled: the most frequent class of the label.
        p_predicted: mean probability of the network's class.
        p_labelled: mean probability of the label's classes.
    """

    image: int
    box: tuple[int, int, int, int]
    middle: tuple[int, int]
    pixels: int
    radius: float
    predicted: int
    labelled: int
    p_predicted: float
    p_labelled: float


@dataclass(frozen=True)
class Look:
    """The findings of one image.

    Attributes:
        regions: candidates.
        class_sums: (C,) sum of the label's probability over the pixels of each class.
        class_pixels: (C,) int64, the pixels of each class in the label.
    """

    regions: list[Region]
    class_sums: NDArray[np.float64]
    class_pixels: NDArray[np.int64]


def look_at(
    image: int, probabilities: NDArray[np.float32], label: NDArray[np.uint8], table: ClassTable
) -> Look:
    """The candidates of one image.

    Args:
        image: index of the sample.
        probabilities: (C, H, W).
        label: (H, W) classes and the ignored value.
        table: the classes.
    """
    classes = table.num_classes
    is_scored = label != table.ignore_index
    own = np.where(is_scored, label, 0)
    predicted = probabilities.argmax(axis=0).astype(np.uint8)
    p_predicted = probabilities.max(axis=0)
    p_labelled = np.take_along_axis(probabilities, own[None].astype(np.int64), axis=0)[0]
    scored_labels = label[is_scored]
    sums = np.bincount(scored_labels, p_labelled[is_scored], classes)
    pixels = np.bincount(scored_labels, minlength=classes)
    differs = is_scored & (predicted != label)
    regions: list[Region] = []
    for index in np.unique(predicted[differs]):
        mask = (differs & (predicted == index)).astype(np.uint8)
        regions += _regions(image, int(index), mask, own, p_predicted, p_labelled)
    regions.sort(key=lambda region: -region.pixels * (region.p_predicted - region.p_labelled))
    return Look(regions[:MOST_PER_IMAGE], sums.astype(np.float64), pixels)


def _regions(
    image: int,
    predicted: int,
    mask: NDArray[np.uint8],
    label: NDArray[np.uint8],
    p_predicted: NDArray[np.float32],
    p_labelled: NDArray[np.float32],
) -> list[Region]:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    inside = mask > 0
    numbers = parts[inside]
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    order = np.argsort(depth[inside], kind="stable")
    radius, middles = np.zeros(count), np.zeros((count, 2), np.int64)
    radius[numbers[order]] = depth[inside][order]  # the last one of each region stays
    middles[numbers[order]] = np.argwhere(inside)[order][:, ::-1]
    area = np.maximum(np.bincount(numbers, minlength=count), 1)
    sure = np.bincount(numbers, p_predicted[inside], count) / area
    own = np.bincount(numbers, p_labelled[inside], count) / area
    labels = np.zeros((count, 256), np.int64)
    np.add.at(labels, (numbers, label[inside]), 1)
    return [
        Region(
            image,
            tuple(stats[n, :4].tolist()),
            tuple(middles[n].tolist()),
            int(area[n]),
            float(radius[n]),
            predicted,
            int(labels[n].argmax()),
            float(sure[n]),
            float(own[n]),
        )
        for n in range(1, count)
        if area[n] >= FEWEST_PIXELS
    ]


@dataclass(frozen=True)
class Suspect:
    """A region and how suspicious it is.

    Attributes:
        score: at least 0; comparable within the images that were ranked together.
    """

    score: float
    region: Region


def rank(looks: Sequence[Look]) -> list[Suspect]:
    """The candidates of all images, the most suspicious first.

    A region's score is the cross entropy of its label (the negative logarithm of `p_labelled`),
    times its radius, so that strips along outlines count little, times `p_predicted` as a share of
    the class's threshold, at most 1.
    """
    if not looks:
        return []
    sums = np.sum([look.class_sums for look in looks], axis=0)
    pixels = np.sum([look.class_pixels for look in looks], axis=0)
    thresholds = sums / np.maximum(pixels, 1)
    suspects = [
        Suspect(_score(region, thresholds[region.predicted]), region)
        for look in looks
        for region in look.regions
    ]
    return sorted(suspects, key=lambda suspect: (-suspect.score, suspect.region.image))


def _score(region: Region, threshold: float) -> float:
    sure = min(1.0, region.p_predicted / max(threshold, LEAST_PROBABILITY))
    return float(-np.log(region.p_labelled + LEAST_PROBABILITY) * sure * region.radius)
