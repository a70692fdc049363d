"""The results of `calibrate` that a bundle keeps (`Manifest.postprocess`).

Source of the familiarity:
    S. Jung et al.: Standardized Max Logits: A Simple yet Effective Approach for Identifying
    Unexpected Road Obstacles in Urban-Scene Segmentation, ICCV 2021 (its first step; neither
    boundary suppression nor smoothing).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.options import option

MOST_LOGIT = 1e9  # of a mean that a file may hold


@dataclass(frozen=True)
class Calibration:
    """The temperature of a bundle's logits, and what it was fitted and judged on.

    Attributes:
        temperature: logits are divided by it before the softmax; label maps do not change.
        class_temperatures: in its place, one for each predicted class; empty where there is one
            for all.
        images: labelled images that it was fitted on.
        pixels: pixels of these, drawn at random.
        judged_images: other images, of the figures below.
        judged_pixels: their pixels, drawn at random.
        ece_before, ece_after: expected calibration error, 0 to 1.
        nll_before, nll_after: mean negative log-likelihood of the labels.
    """

    temperature: float = option(1.0, "", above=0)
    class_temperatures: list[float] = option([], "", above=0)
    images: int = option(0, "", at_least=0)
    pixels: int = option(0, "", at_least=0)
    judged_images: int = option(0, "", at_least=0)
    judged_pixels: int = option(0, "", at_least=0)
    ece_before: float = option(0.0, "", at_least=0)
    ece_after: float = option(0.0, "", at_least=0)
    nll_before: float = option(0.0, "", at_least=0)
    nll_after: float = option(0.0, "", at_least=0)

    def to_dict(self) -> dict[str, Any]:
        """The section of a deploy.yaml."""
        return asdict(self)

    def describe(self) -> str:
        """Two sentences for people, with a line break between them."""
        which = f"temperature {self.temperature:.4g}"
        if self.class_temperatures:
            low, high = min(self.class_temperatures), max(self.class_temperatures)
            which = f"a temperature for each predicted class, {low:.4g} to {high:.4g}"
        return (
            f"Confidence: {which}, fitted on {self.images} images by `calibrate`. On "
            f"{self.judged_images} others\nthe expected calibration error went from "
            f"{self.ece_before:.4f} to {self.ece_after:.4f}."
        )


@dataclass(frozen=True)
class ClassStatistics:
    """The largest logits of training pixels, for each class that was predicted there.

    Attributes:
        means: one for each class.
        deviations: standard ones; a class that was hardly predicted has both of all pixels.
        images: training images.
        pixels: pixels of these, drawn at random.
    """

    means: list[float] = option([], "", at_least=-MOST_LOGIT, below=MOST_LOGIT)
    deviations: list[float] = option([], "", above=0)
    images: int = option(0, "", at_least=0)
    pixels: int = option(0, "", at_least=0)

    def to_dict(self) -> dict[str, Any]:
        """The section of a deploy.yaml."""
        return asdict(self)

    def familiarity(
        self, largest: NDArray[np.floating], best: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The standardised largest logit: deviations above the mean of the predicted class.

        Args:
            largest: logits of the best classes.
            best: their numbers, of the same shape.
        """
        means, deviations = np.array(self.means, "f4"), np.array(self.deviations, "f4")
        return (largest.astype(np.float32) - means[best]) / deviations[best]
