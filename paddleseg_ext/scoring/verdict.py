"""Whether two ways of running one network gave the same answer, in three grades.

What is compared are label maps and the integer counts scored from them, never files or hashes.

- `identical`: every pixel of every label map is the same, and so are the counts.
- `near-tie`: some pixels differ, and at each of them the eager network was undecided between the
  two classes: their logits differ by less than `NEAR_TIE` of the largest |logit| of the image.
  Kernels that sum in another order drift by about 2e-5, which can flip such a pixel.
- `failed`: a pixel differs that was decided, a map is missing or misshapen, or counts differ
  where there is no map to explain it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.metrics import FloatArray

IDENTICAL, NEAR_TIE_GRADE, FAILED = GRADES = ("identical", "near-tie", "failed")
NEAR_TIE = 1e-4
# A failed run can differ in millions of pixels; a near tie lists every one.
_LISTED_WHEN_FAILED = 20


@dataclass(frozen=True)
class Flip:
    """One pixel whose class differs from the eager network's.

    Attributes:
        row, column: of the original image.
        expected, got: class ids, eager and of the run.
        margin: eager logit of `expected` minus that of `got`, over the image's largest |logit|.
    """

    image: str
    row: int
    column: int
    expected: int
    got: int
    margin: float


@dataclass
class ImageVerdict:
    """The comparison of one image."""

    image: str
    grade: str
    num_different: int = 0
    flips: list[Flip] = field(default_factory=list)
    reason: str = ""


@dataclass
class RunVerdict:
    """The comparison of one run over all images.

    Attributes:
        count_differences: run minus eager, `{class: {"intersection": d, "prediction": d,
            "label": d}}`, classes without a difference left out.
        reason: why it failed, one line; empty otherwise.
    """

    grade: str
    num_images: int
    num_different: int = 0
    flips: list[Flip] = field(default_factory=list)
    count_differences: dict[str, dict[str, int]] = field(default_factory=dict)
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the run is within the budget of FP32."""
        return self.grade != FAILED

    def summary(self) -> str:
        """One line: `identical`, or how many pixels differ and what that means."""
        if self.grade == IDENTICAL:
            return f"identical ({self.num_images} images)"
        if self.grade == NEAR_TIE_GRADE:
            widest = max(flip.margin for flip in self.flips)
            return (
                f"near-tie ({self.num_different} pixels of {self.num_images} images differ, "
                f"largest margin {widest:.1e} of the largest logit)"
            )
        return f"failed: {self.reason}"


def judge_image(
    image: str,
    expected: NDArray[np.uint8],
    got: NDArray[np.uint8],
    logits: FloatArray | NDArray[np.float32] | None,
    tolerance: float = NEAR_TIE,
) -> ImageVerdict:
    """Compare one label map with the eager network's.

    Args:
        image: its name, for the report.
        expected: (H, W) classes of the eager network.
        got: (H, W) classes of the run.
        logits: (C, H, W) eager logits at the size of the maps; needed where the maps differ.
        tolerance: of the largest |logit|.
    """
    if expected.shape != got.shape:
        return ImageVerdict(
            image, FAILED, reason=f"size {got.shape} instead of {expected.shape} (H, W)"
        )
    rows, columns = np.nonzero(expected != got)
    if not rows.size:
        return ImageVerdict(image, IDENTICAL)
    if logits is None:
        raise ValueError(f"{image}: the maps differ, so the eager logits are needed")
    largest = float(np.abs(logits).max())
    if not np.isfinite(largest):
        return ImageVerdict(image, FAILED, rows.size, reason="the eager logits are not finite")
    was, now = expected[rows, columns], got[rows, columns]
    if now.max() >= logits.shape[0]:
        return ImageVerdict(
            image, FAILED, rows.size, reason=f"class {now.max()} of {logits.shape[0]} classes"
        )
    margins = (logits[was, rows, columns] - logits[now, rows, columns]) / (largest or 1.0)
    # A negative margin: the eager map is not the arg-max of these logits, which proves nothing.
    undecided = (margins >= 0) & (margins < tolerance)
    order = np.argsort(-margins, kind="stable")
    failed = not undecided.all()
    flips = [
        Flip(image, int(rows[i]), int(columns[i]), int(was[i]), int(now[i]), float(margins[i]))
        for i in (order[:_LISTED_WHEN_FAILED] if failed else order)
    ]
    if not failed:
        return ImageVerdict(image, NEAR_TIE_GRADE, rows.size, flips)
    return ImageVerdict(
        image,
        FAILED,
        rows.size,
        flips,
        reason=f"{rows.size} pixels differ, {np.count_nonzero(~undecided)} of them decided "
        f"(margin up to {margins[order[0]]:.1e} of the largest logit)",
    )


def judge_run(
    verdicts: Sequence[ImageVerdict],
    expected_counts: IntArray | None,
    counts: IntArray | None,
    class_names: Sequence[str],
) -> RunVerdict:
    """One verdict from the images' verdicts and the total counts.

    Args:
        verdicts: of every image of the list.
        expected_counts: (C, C) of the eager network; None where the images have no labels.
        counts: (C, C) of the run; None likewise.
        class_names: C names.
    """
    verdict = RunVerdict(
        grade=max((v.grade for v in verdicts), key=GRADES.index, default=IDENTICAL),
        num_images=len(verdicts),
        num_different=sum(v.num_different for v in verdicts),
        flips=[flip for v in verdicts for flip in v.flips],
    )
    if expected_counts is not None and counts is not None:
        verdict.count_differences = count_differences(expected_counts, counts, class_names)
    failed = [v for v in verdicts if v.grade == FAILED]
    if failed:
        more = f" (and {len(failed) - 1} more images)" if len(failed) > 1 else ""
        verdict.reason = f"{failed[0].image}: {failed[0].reason}{more}"
        verdict.reason += describe_differences(verdict.count_differences)
    elif verdict.grade == IDENTICAL and verdict.count_differences:
        # Equal maps cannot score differently unless the labels or the scoring differ.
        verdict.grade = FAILED
        verdict.reason = "equal label maps, but" + describe_differences(verdict.count_differences)
    return verdict


def judge_counts(
    expected_counts: IntArray, counts: IntArray, class_names: Sequence[str], num_images: int
) -> RunVerdict:
    """The verdict where only total counts were kept (the evaluation of a training run)."""
    if np.array_equal(expected_counts, counts):
        return RunVerdict(IDENTICAL, num_images)
    if counts.shape != expected_counts.shape:
        reason = f"{counts.shape[0]} classes instead of {expected_counts.shape[0]}"
        return RunVerdict(FAILED, num_images, reason=reason)
    differences = count_differences(expected_counts, counts, class_names)
    reason = "the counts differ" + describe_differences(differences)
    return RunVerdict(FAILED, num_images, count_differences=differences, reason=reason)


def count_differences(
    expected: IntArray, got: IntArray, class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Per class, run minus eager, of the three pixel counts that IoU is made of."""
    difference = got - expected
    columns = {
        "intersection": np.diagonal(difference),
        "prediction": difference.sum(axis=0),
        "label": difference.sum(axis=1),
    }
    return {
        name: {kind: int(values[i]) for kind, values in columns.items()}
        for i, name in enumerate(class_names)
        if any(values[i] for values in columns.values())
    }


def describe_differences(differences: dict[str, dict[str, int]], limit: int = 3) -> str:
    """`; intersection road -120, car +4 and 7 more classes`; empty without differences."""
    if not differences:
        return ""
    widest = sorted(differences, key=lambda name: -_size(differences[name]))
    parts = [
        f"{name} {differences[name]['intersection']:+d} correct, "
        f"{differences[name]['prediction']:+d} predicted"
        for name in widest[:limit]
    ]
    more = f" and {len(widest) - limit} more classes" if len(widest) > limit else ""
    return f"; pixels: {'; '.join(parts)}{more}"


def _size(difference: dict[str, int]) -> int:
    return max(abs(value) for value in difference.values())


def worst_grade(grades: Iterable[str]) -> str:
    """The grade of several runs together."""
    return max(grades, key=GRADES.index, default=IDENTICAL)


def as_json(flips: Sequence[Flip], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Flips with the names of their classes."""
    return [
        {
            "image": flip.image,
            "row": flip.row,
            "column": flip.column,
            "expected": class_names[flip.expected],
            "got": class_names[flip.got],
            "margin": flip.margin,
        }
        for flip in flips
    ]
