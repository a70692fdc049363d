"""The evaluator: integer counts, the printed lines, the JSON, what is refused."""

import errno
import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from engines import FakeEngine, predictor_of

from paddleseg_ext.common.errors import CheckFailed, DataError
from paddleseg_ext.evaluation.evaluator import (
    EvaluationOptions,
    Scorer,
    evaluate,
    format_array,
    merge_evaluations,
)
from paddleseg_ext.evaluation.prediction_run import RunSettings, predict_and_save
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.pipeline import Prediction

NUM_CLASSES = 4
HEIGHT, WIDTH = 12, 10


@dataclass(frozen=True)
class FakeSample:
    image: Path
    label: Path | None
    name: str


class BlueNetwork(FakeEngine):
    """The class is the blue channel, a class for each 50 of it."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        ids = (batch[:, 2] / 50).astype(int)
        return np.eye(NUM_CLASSES, dtype=np.float32)[ids].transpose(0, 3, 1, 2)


@pytest.fixture
def samples(tmp_path: Path) -> list[FakeSample]:
    """Predictions 0..2 and labels 0..2 or 255; class 3 occurs nowhere."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(3):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[..., 0] = rng.integers(0, 3, (HEIGHT, WIDTH)) * 50  # blue comes first in OpenCV
        label = rng.choice([0, 1, 2, 255], (HEIGHT, WIDTH)).astype(np.uint8)
        paths = tmp_path / f"{i}.png", tmp_path / f"{i}_label.png"
        cv2.imwrite(str(paths[0]), image)
        cv2.imwrite(str(paths[1]), label)
        made.append(FakeSample(*paths, f"image_{i}"))
    return made


def run(samples: list[FakeSample], **options):  # type: ignore[no-untyped-def]
    predictor = predictor_of(BlueNetwork(), NUM_CLASSES)
    return evaluate(predictor, samples, EvaluationOptions(**options))


def counted_by_hand(samples: list[FakeSample]) -> np.ndarray:
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), int)
    for sample in samples:
        prediction = cv2.imread(str(sample.image))[..., 0] // 50
        label = cv2.imread(str(sample.label), cv2.IMREAD_UNCHANGED)
        for row, column in zip(label.ravel(), prediction.ravel(), strict=True):
            if row != 255:
                counts[row, column] += 1
    return counts


def test_counts_of_the_run_and_of_each_image(samples: list[FakeSample]) -> None:
    evaluation = run(samples, batch_size=2)
    expected = counted_by_hand(samples)
    np.testing.assert_array_equal(evaluation.counts, expected)
    assert [image.name for image in evaluation.images] == [s.name for s in samples]
    for attribute, total in [
        ("intersection", np.diagonal(expected)),
        ("prediction_pixels", expected.sum(axis=0)),
        ("label_pixels", expected.sum(axis=1)),
    ]:
        each = [getattr(image, attribute) for image in evaluation.images]
        np.testing.assert_array_equal(np.sum(each, axis=0), total)
    first = counted_by_hand(samples[:1])
    np.testing.assert_array_equal(evaluation.images[0].intersection, np.diagonal(first))


def test_eval_lines_have_paddlesegs_form(
    samples: list[FakeSample], capsys: pytest.CaptureFixture
) -> None:
    evaluation = run(samples)
    scores = evaluation.scores
    printed = capsys.readouterr().out
    assert (
        f"[EVAL] #Images: 3 mIoU: {scores.mean_iou:.4f} Acc: {scores.accuracy:.4f} "
        f"Kappa: {scores.kappa:.4f} Dice: {scores.mean_dice:.4f}\n"
    ) in printed
    for name in ("IoU", "Precision", "Recall"):
        assert f"[EVAL] Class {name}: \n[" in printed
    assert "absent classes: skip" in printed
    assert f"{format_array(scores.class_iou)}\n" in printed


def test_people_see_a_table_with_names_before_the_rows_for_tools(
    samples: list[FakeSample], capsys: pytest.CaptureFixture
) -> None:
    evaluation = run(samples)
    printed = capsys.readouterr().out
    names = evaluation.class_table.class_names
    places = [printed.index(f"\n  {name} ") for name in names]
    assert places == sorted(places) and places[-1] < printed.index("[EVAL] Class IoU")
    assert printed.count("Class Acc") == 1  # said of which column it is


def test_silent_when_asked(samples: list[FakeSample], capfd: pytest.CaptureFixture) -> None:
    run(samples, show_progress=False, print_scores=False)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_sample_that_fails_is_named_and_the_others_are_scored(
    samples: list[FakeSample], capsys: pytest.CaptureFixture
) -> None:
    samples[1].image.write_bytes(b"no image")
    with pytest.raises(DataError, match=samples[1].image.name):
        run(samples)
    evaluation = run(samples, goes_on=True)
    assert list(evaluation.failed) == [samples[1].name]
    assert str(samples[1].image) in evaluation.failed[samples[1].name]
    others = [samples[0], samples[2]]
    np.testing.assert_array_equal(evaluation.counts, counted_by_hand(others))
    assert "[ERROR]" in capsys.readouterr().out
    parts = [run([samples[0]]), run(samples[1:], goes_on=True)]
    merged = merge_evaluations(parts, [sample.name for sample in samples])
    assert merged.failed == evaluation.failed
    np.testing.assert_array_equal(merged.counts, evaluation.counts)


def test_a_file_of_an_image_that_cannot_be_written_fails_that_image(
    samples: list[FakeSample],
) -> None:
    def watch(prediction: Prediction, *_: object) -> None:
        if prediction.sample.name == samples[0].name:
            raise IsADirectoryError(errno.EISDIR, "taken", "a.png")

    evaluation = run(samples, goes_on=True, watch=watch)
    assert list(evaluation.failed) == [samples[0].name]
    np.testing.assert_array_equal(evaluation.counts, counted_by_hand(samples[1:]))


def test_json_is_plain_and_names_the_rule(samples: list[FakeSample]) -> None:
    evaluation = run(samples, absent="zero")
    written = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert written["absent"] == "zero"
    assert written["confusion_matrix"] == evaluation.counts.tolist()
    assert written["images"][2]["label_pixels"] == evaluation.images[2].label_pixels.tolist()
    assert written["scores"]["class_iou"][3] is None
    assert written["scores"]["mean_iou"] < run(samples).to_json()["scores"]["mean_iou"]


def test_arrays_stand_on_one_line_with_zero_for_absent_classes() -> None:
    many = np.linspace(0, 1, 150)
    assert "\n" not in format_array(many) and "..." not in format_array(many)
    assert format_array(np.array([0.51239, np.nan, 1e-9])) == "[0.5124 0.     0.    ]"


def test_what_cannot_be_scored(samples: list[FakeSample], tmp_path: Path) -> None:
    scorer = Scorer(generic_table(NUM_CLASSES))
    label_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    sample = samples[0]
    with pytest.raises(DataError, match="it broke"):
        scorer.count_prediction(Prediction(sample, error="it broke"))
    with pytest.raises(DataError, match="no label"):
        scorer.add(FakeSample(sample.image, None, "x"), label_map)
    with pytest.raises(DataError, match=r"12x10 .* got 10x12"):
        scorer.add(sample, label_map.T)
    with pytest.raises(DataError, match=r"prediction: values 0 to 3"):
        scorer.add(sample, label_map + 9)
    cv2.imwrite(str(sample.label), np.full((HEIGHT, WIDTH), 77, np.uint8))
    with pytest.raises(DataError, match="77"):
        scorer.add(sample, label_map)
    assert scorer.num_images == 0 and scorer.result().counts.sum() == 0


def test_an_unreadable_image_ends_the_evaluation(samples: list[FakeSample]) -> None:
    samples[1].image.write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png"):
        run(samples)


def test_the_table_names_the_classes_and_the_absent_ones(samples: list[FakeSample]) -> None:
    evaluation = run(samples)
    title, *rows = evaluation.table_lines()
    assert title.split() == ["class", "IoU", "precision", "recall", "label", "pixels"]
    assert rows[1].split()[:2] == ["class_1", f"{evaluation.scores.class_iou[1]:.4f}"]
    assert rows[3].split() == ["class_3", "absent", "absent", "absent", "0"]
    assert "\n".join(evaluation.section_lines("predict")).endswith(rows[3])
    ignored = sum(
        int((cv2.imread(str(s.label), cv2.IMREAD_UNCHANGED) == 255).sum()) for s in samples
    )
    assert evaluation.ignored_pixels == evaluation.to_json()["ignored_pixels"] == ignored


@pytest.mark.parametrize("absent", ["skip", "zero", "one", "smooth"])
def test_void_labels_are_no_score(absent: str, samples: list[FakeSample]) -> None:
    cv2.imwrite(str(samples[0].label), np.full((HEIGHT, WIDTH), 255, np.uint8))
    void = run(samples[:1], absent=absent, print_scores=False)
    with pytest.raises(CheckFailed, match="no labelled pixel"):
        void.require_labelled()
    assert np.isnan(void.scores.mean_iou)
    assert run(samples[:2], absent=absent).require_labelled().scores.mean_iou >= 0


@pytest.mark.parametrize("values", [[255], [0, 255]])
def test_predictions_go_on_without_scores(
    values: list[int],
    samples: list[FakeSample],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    for sample in samples:
        label = np.resize(values, (HEIGHT, WIDTH)).astype(np.uint8)
        cv2.imwrite(str(sample.label), label)
    predictor = predictor_of(BlueNetwork(), NUM_CLASSES)
    settings = RunSettings("predict", tmp_path / "out", absent="one")
    assert predict_and_save(predictor, samples, settings) == 0
    printed = capsys.readouterr().out
    assert "nothing is scored: " in printed and "Class IoU" not in printed
    written = json.loads((tmp_path / "out/predict.json").read_text())
    assert written["evaluation"] is None and written["num_predicted"] == 3


def test_unknown_pixels_are_counted_and_not_scored(samples: list[FakeSample]) -> None:
    """An unknown pixel counts as one whose label is ignored, and its share is printed."""
    table = generic_table(NUM_CLASSES).with_unknown()
    label = cv2.imread(str(samples[0].label), cv2.IMREAD_UNCHANGED)
    guess = np.random.default_rng(5).integers(0, 3, label.shape).astype(np.uint8)
    marked = guess.copy()
    marked[3:6] = table.unknown
    scorer = Scorer(table)
    scorer.add(samples[0], marked)
    found = scorer.result()

    masked = label.copy()
    masked[3:6] = 255
    cv2.imwrite(str(samples[0].label), masked)
    other = Scorer(generic_table(NUM_CLASSES))
    other.add(samples[0], guess)
    np.testing.assert_array_equal(found.counts, other.result().counts)
    unknown = int((label[3:6] != 255).sum())
    assert found.unknown_pixels == found.to_json()["unknown_pixels"] == unknown > 0
    assert found.ignored_pixels == int((label == 255).sum())
    share = unknown / (label != 255).sum()
    assert f"{share:.2%} of the labelled pixels are unknown and not scored" in found.how()
    assert "unknown" not in other.result().how()
    all_marked = Scorer(table, marks_unknown=True)
    all_marked.add(samples[0], np.full_like(guess, table.unknown))
    assert all_marked.result().label_counts.fault() == "", "the labels are not at fault"
    assert "100.00% of the labelled pixels are unknown" in all_marked.result().how()
    assert all_marked.result().mean_iou_with_unknown == 0
    none_marked = Scorer(table, marks_unknown=True)
    none_marked.add(samples[0], guess)
    assert none_marked.result().to_json()["unknown_pixels"] == 0
    assert "0.00% of the labelled pixels are unknown" in none_marked.result().how()

    # As a class of its own that no label has: the unknown pixels are missed by their classes.
    wrong = np.where(marked == table.unknown, 99, marked).astype(np.uint8)
    expected = []
    for number in range(NUM_CLASSES):
        is_label, is_guess = label == number, (wrong == number) & (label != 255)
        union = (is_label | is_guess).sum()
        if union:
            expected.append((is_label & is_guess).sum() / union)
    assert found.mean_iou_with_unknown == pytest.approx(np.mean(expected))
    assert found.to_json()["mean_iou_with_unknown"] == pytest.approx(np.mean(expected))
    assert found.mean_iou_with_unknown < found.scores.mean_iou
    both = merge_evaluations([found, replace(other.result(), images=())], [samples[0].name])
    assert both.unknown_pixels == unknown
