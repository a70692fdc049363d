"""Whether two ways of running one network gave the same answer, in four grades.

What is compared are label maps and the integer counts scored from them, never files or hashes.

- `identical`: every pixel of every label map is the same, and so are the counts.
- `near-tie`: some pixels differ, and at each of them the reference was undecided between the
  two classes: their logits differ by less than `NEAR_TIE` of the largest |logit| of the image.
  Kernels that sum in another order drift by about 2e-5, which can flip such a pixel.
- `within-budget`: decided pixels differ, and they, the mean IoU and every class's IoU differ by no
  more than the `Budget` of the run's precision. FP32 has none by default.
- `failed`: anything else: a map is missing or misshapen, counts differ where there is no map to
  explain it, or the budget is exceeded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.scoring.confusion import ClassPixels, IntArray
from paddleseg_ext.scoring.metrics import FloatArray

GRADES = ("identical", "near-tie", "within-budget", "failed")
IDENTICAL, NEAR_TIE_GRADE, WITHIN_BUDGET, FAILED = GRADES
# The grade of no runs at all, which is none of the four: nothing was shown.
NOT_COMPARED = "not compared"
NEAR_TIE = 1e-4
# A failed run can differ in millions of pixels; a near tie lists every one.
_LISTED_WHEN_FAILED = 20


@dataclass(frozen=True)
class Budget:
    """Largest differences allowed to a precision; the defaults allow nothing but near ties.

    Attributes:
        different_pixels: share of all pixels that change class and are no near tie, 0 to 1.
        mean_iou: absolute difference of the mean IoU of the judged classes, 0 to 1.
        class_iou: the same of each judged class.
        least_class_pixels: classes with fewer labelled pixels than this are not judged by IoU: a
            handful of pixels moves their IoU by any amount.
    """

    different_pixels: float = 0.0
    mean_iou: float = 0.0
    class_iou: float = 0.0
    least_class_pixels: int = 1


EXACT = Budget()


@dataclass(frozen=True)
class Difference:
    """How far a run is from the reference, in the terms of a `Budget`.

    Attributes:
        different_pixels: share of all pixels; near ties are not among them.
        mean_iou: run minus reference over the judged classes; None where no class is judged.
        class_iou: the one that is largest in size, run minus reference; None likewise.
        class_name: whose that is.
        judged_classes: how many have enough labelled pixels.
    """

    different_pixels: float = 0.0
    mean_iou: float | None = None
    class_iou: float | None = None
    class_name: str = ""
    judged_classes: int = 0

    def excess(self, budget: Budget) -> str:
        """The differences beyond the budget, in words; empty where there are none."""
        parts = []
        if not self.different_pixels <= budget.different_pixels:
            parts.append(
                f"{self.different_pixels:.3%} of the pixels change class "
                f"(at most {budget.different_pixels:.3%})"
            )
        if self.mean_iou is not None and not abs(self.mean_iou) <= budget.mean_iou:
            parts.append(f"mean IoU {self.mean_iou:+.4f} (at most {budget.mean_iou:.4f})")
        if self.class_iou is not None and not abs(self.class_iou) <= budget.class_iou:
            parts.append(
                f"IoU of {self.class_name} {self.class_iou:+.4f} (at most {budget.class_iou:.4f})"
            )
        return ", ".join(parts)


@dataclass(frozen=True)
class Flip:
    """One pixel whose class differs from the reference's.

    Attributes:
        row, column: of the original image.
        expected, got: class ids, of the reference and of the run.
        margin: reference logit of `expected` minus that of `got`, over the image's largest |logit|.
    """

    image: str
    row: int
    column: int
    expected: int
    got: int
    margin: float


@dataclass
class ImageVerdict:
    """The comparison of one image.

    Attributes:
        num_different: pixels whose class differs.
        num_decided: those among them that are no near tie. 0 in a failed image means that there
            was nothing to compare: no map, another size, no such class.
        num_pixels: of the image.
    """

    image: str
    grade: str
    num_different: int = 0
    num_decided: int = 0
    num_pixels: int = 0
    flips: list[Flip] = field(default_factory=list)
    reason: str = ""


@dataclass
class RunVerdict:
    """The comparison of one run over all images.

    Attributes:
        num_pixels: of all images whose maps could be compared.
        count_differences: run minus reference, `{class: {"intersection": d, "prediction": d,
            "label": d}}`, classes without a difference left out.
        reason: why it failed, one line; empty otherwise.
        difference: in the terms of the budget; None where there are no maps.
    """

    grade: str
    num_images: int
    num_different: int = 0
    num_pixels: int = 0
    flips: list[Flip] = field(default_factory=list)
    count_differences: dict[str, dict[str, int]] = field(default_factory=dict)
    reason: str = ""
    difference: Difference | None = None

    @property
    def passed(self) -> bool:
        """Whether the run is within its budget."""
        return self.grade != FAILED

    def figures(self) -> dict[str, Any]:
        """The part of a bundle's record (`Verified`) that every command fills."""
        kept = ("grade", "passed", "num_different", "num_images", "num_pixels")
        return {name: getattr(self, name) for name in kept}

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
        if self.grade == WITHIN_BUDGET and self.difference:
            return f"within-budget ({self._in_budget_terms(self.difference)})"
        return f"failed: {self.reason}"

    def _in_budget_terms(self, difference: Difference) -> str:
        text = f"{self.num_different} pixels of {self.num_images} images differ, "
        text += f"{difference.different_pixels:.3%} decided"
        if difference.mean_iou is None:
            return f"{text}; no class has labelled pixels enough to judge its IoU"
        return (
            f"{text}; mean IoU {difference.mean_iou:+.4f}, "
            f"most {difference.class_name} {difference.class_iou:+.4f}"
        )


def judge_image(
    image: str,
    expected: NDArray[np.uint8],
    got: NDArray[np.uint8],
    logits: FloatArray | NDArray[np.float32] | None,
    tolerance: float = NEAR_TIE,
) -> ImageVerdict:
    """Compare one label map with the reference's.

    Args:
        image: its name, for the report.
        expected: (H, W) classes of the reference.
        got: (H, W) classes of the run.
        logits: (C, H, W) reference logits at the size of the maps; without them (a reference that
            gives class ids only) every pixel that differs counts as decided.
        tolerance: of the largest |logit|.
    """
    if expected.shape != got.shape:
        return ImageVerdict(
            image, FAILED, reason=f"size {got.shape} instead of {expected.shape} (H, W)"
        )
    rows, columns = np.nonzero(expected != got)
    if not rows.size:
        return ImageVerdict(image, IDENTICAL, num_pixels=expected.size)
    if logits is None:
        reason = f"{rows.size} pixels differ (no logits tell how decided they were)"
        return ImageVerdict(image, FAILED, rows.size, rows.size, expected.size, reason=reason)
    largest = float(np.abs(logits).max())
    if not np.isfinite(largest):
        return ImageVerdict(image, FAILED, rows.size, reason="the reference logits are not finite")
    was, now = expected[rows, columns], got[rows, columns]
    if now.max() >= logits.shape[0]:
        return ImageVerdict(
            image, FAILED, rows.size, reason=f"class {now.max()} of {logits.shape[0]} classes"
        )
    margins = (logits[was, rows, columns] - logits[now, rows, columns]) / (largest or 1.0)
    # A negative margin: the reference map is not the arg-max of these logits, which proves nothing.
    undecided = (margins >= 0) & (margins < tolerance)
    order = np.argsort(-margins, kind="stable")
    failed = not undecided.all()
    flips = [
        Flip(image, int(rows[i]), int(columns[i]), int(was[i]), int(now[i]), float(margins[i]))
        for i in (order[:_LISTED_WHEN_FAILED] if failed else order)
    ]
    if not failed:
        return ImageVerdict(image, NEAR_TIE_GRADE, rows.size, 0, expected.size, flips)
    num_decided = int(np.count_nonzero(~undecided))
    reason = (
        f"{rows.size} pixels differ, {num_decided} of them decided "
        f"(margin up to {margins[order[0]]:.1e} of the largest logit)"
    )
    return ImageVerdict(image, FAILED, rows.size, num_decided, expected.size, flips, reason)


def judge_run(
    verdicts: Sequence[ImageVerdict],
    expected_counts: IntArray | None,
    counts: IntArray | None,
    class_names: Sequence[str],
    budget: Budget = EXACT,
) -> RunVerdict:
    """One verdict from the images' verdicts and the total counts.

    Args:
        verdicts: of every image of the list.
        expected_counts: (C, C) of the reference; None where the images have no labels.
        counts: (C, C) of the run; None likewise.
        class_names: C names.
        budget: of the run's precision. Without labels only its share of pixels is judged.
    """
    verdict = RunVerdict(
        grade=max((v.grade for v in verdicts), key=GRADES.index, default=IDENTICAL),
        num_images=len(verdicts),
        num_different=sum(v.num_different for v in verdicts),
        num_pixels=sum(v.num_pixels for v in verdicts),
        flips=[flip for v in verdicts for flip in v.flips],
    )
    if expected_counts is not None and counts is not None:
        verdict.count_differences = count_differences(expected_counts, counts, class_names)
    verdict.difference = measure_difference(verdicts, expected_counts, counts, class_names, budget)
    failed = [v for v in verdicts if v.grade == FAILED]
    excess = verdict.difference.excess(budget)
    if failed and all(v.num_decided for v in failed) and not excess:
        verdict.grade = WITHIN_BUDGET
    elif failed:
        more = f" (and {len(failed) - 1} more images)" if len(failed) > 1 else ""
        verdict.reason = f"{failed[0].image}: {failed[0].reason}{more}"
        if budget != EXACT and excess:
            verdict.reason += f"; beyond the budget: {excess}"
        verdict.reason += describe_differences(verdict.count_differences)
    elif verdict.grade == IDENTICAL and verdict.count_differences:
        # Equal maps cannot score differently unless the labels or the scoring differ.
        verdict.grade = FAILED
        verdict.reason = "equal label maps, but" + describe_differences(verdict.count_differences)
    return verdict


def measure_difference(
    verdicts: Sequence[ImageVerdict],
    expected_counts: IntArray | None,
    counts: IntArray | None,
    class_names: Sequence[str],
    budget: Budget,
) -> Difference:
    """How far a run is from the reference; the arguments are those of `judge_run`."""
    num_pixels = sum(v.num_pixels for v in verdicts)
    share = sum(v.num_decided for v in verdicts) / max(1, num_pixels)
    if expected_counts is None or counts is None:
        return Difference(share)
    judged = np.flatnonzero(expected_counts.sum(axis=1) >= max(1, budget.least_class_pixels))
    if not judged.size:
        return Difference(share)
    before, after = (np.nan_to_num(ClassPixels.of(c).iou()) for c in (expected_counts, counts))
    change = (after - before)[judged]
    most = int(np.abs(change).argmax())
    return Difference(
        share, float(change.mean()), float(change[most]), class_names[judged[most]], judged.size
    )


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
    """Per class, run minus reference, of the three pixel counts that IoU is made of."""
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
    """The grade of several runs together; NOT_COMPARED where there is none."""
    return max(grades, key=GRADES.index, default=NOT_COMPARED)


def as_json(flips: Sequence[Flip], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Flips with the names of their classes."""
    return [
        vars(flip) | {"expected": class_names[flip.expected], "got": class_names[flip.got]}
        for flip in flips
    ]
