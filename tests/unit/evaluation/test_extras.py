"""Boundary F1, categories, submissions, the report's shelves, comparisons."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_cdt

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.evaluation.boundary import BAND, TOLERANCE, boundary_f1, boundary_pixels
from paddleseg_ext.evaluation.categories import CITYSCAPES_CATEGORIES, category_scores
from paddleseg_ext.evaluation.compare import compare, comparison_lines
from paddleseg_ext.evaluation.evaluator import Evaluation, ImageCounts, merge_evaluations
from paddleseg_ext.evaluation.findings import Findings
from paddleseg_ext.evaluation.picture_shelf import PICTURED, PictureShelf
from paddleseg_ext.evaluation.report import report_html
from paddleseg_ext.evaluation.submission import Submission
from paddleseg_ext.images.labels import CITYSCAPES, CITYSCAPES_RAW_IDS, generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.pipeline import Prediction
from paddleseg_ext.inference.predictor import Segmentation


@dataclass(frozen=True)
class FakeSample:
    image: Path
    label: Path | None
    name: str


def square(offset: int, side: int = 100) -> np.ndarray:
    label = np.zeros((side, side), np.uint8)
    label[30 + offset : 70 + offset, 30:70] = 1
    return label


def test_boundary_f1_of_equal_maps_is_1() -> None:
    values = boundary_f1(square(0), square(0), 3, 255)
    np.testing.assert_array_equal(values, [1.0, 1.0, np.nan])


def test_boundary_f1_forgives_what_is_within_the_tolerance() -> None:
    reach = round(TOLERANCE * np.hypot(400, 400))
    near = boundary_f1(square(reach, 400), square(0, 400), 2, 255)
    far = boundary_f1(square(3 * reach, 400), square(0, 400), 2, 255)
    assert (near == 1.0).all() and (far < 0.9).all()


def test_boundary_f1_by_hand() -> None:
    """A prediction that misses the class altogether, and one that invents it."""
    nothing = np.zeros((100, 100), np.uint8)
    assert boundary_f1(nothing, square(0), 2, 255)[1] == 0.0
    assert boundary_f1(square(0), nothing, 2, 255)[1] == 0.0
    assert np.isnan(boundary_f1(nothing, nothing, 2, 255)).all(), "no outline anywhere"


def test_boundary_f1_leaves_ignored_pixels_out() -> None:
    label = square(0)
    label[:, :50] = 255
    wrong_where_ignored = square(0)
    wrong_where_ignored[:, :40] = 1
    values = boundary_f1(wrong_where_ignored, label, 2, 255)
    assert values[1] == 1.0


def test_boundary_iou_of_a_distance_transform() -> None:
    """The band by the distance to the next pixel outside, in steps of a king on a chessboard."""
    rng = np.random.default_rng(8)
    height, width = 90, 140
    reach = round(BAND * np.hypot(height, width))
    coarse = rng.integers(0, 4, (2, 9, 14), dtype=np.uint8)
    prediction, label = (cv2.resize(each, (width, height), interpolation=0) for each in coarse)
    label[20:50, 60:90] = 255
    found = boundary_pixels(prediction, label, 5, 255)
    for index in range(4):
        bands = []
        for each in (prediction, label):
            region = np.pad((each == index) | (label == 255), 1)
            distance = distance_transform_cdt(region, "chessboard")[1:-1, 1:-1]
            bands.append((distance > 0) & (distance <= reach) & (label != 255))
        assert found[0, index] == (bands[0] & bands[1]).sum()
        assert found[1, index] == (bands[0] | bands[1]).sum()
    assert found[:, 4].tolist() == [0, 0]


def test_boundary_iou_by_hand() -> None:
    """A square of 40 that is 10 too low: bands of 3 pixels meet at their sides and crossings."""
    found = boundary_pixels(square(10), square(0), 2, 255)[:, 1]
    assert round(BAND * np.hypot(100, 100)) == 3
    band = 40 * 40 - 34 * 34
    shared = 2 * 3 * 30  # two sides, 30 rows long; top and bottom bands do not meet
    assert found[0] == shared
    assert found[1] == 2 * band - shared
    inside_only = square(0)
    inside_only[40:60, 40:60] = 255
    assert boundary_pixels(square(0), inside_only, 2, 255)[0, 1] == band


def test_categories_forgive_confusion_inside_them() -> None:
    names = CITYSCAPES.class_names
    counts = np.zeros((19, 19), np.int64)
    counts[names.index("car"), names.index("bus")] = 10
    counts[names.index("road"), names.index("car")] = 10
    found = category_scores(counts, CITYSCAPES, "skip")
    assert found is not None
    iou = dict(zip(found[0], found[1].class_iou, strict=True))
    assert iou["vehicle"] == 0.5 and iou["flat"] == 0.0 and np.isnan(iou["sky"])
    assert sum(map(len, CITYSCAPES_CATEGORIES.values())) == 19
    assert category_scores(counts, generic_table(19), "skip") is None


def test_submission_holds_label_ids_under_the_images_names(tmp_path: Path) -> None:
    images = [tmp_path / "frankfurt_000000_000294_leftImg8bit.png"]
    submission = Submission(tmp_path / "out", CITYSCAPES, images)
    label_map = np.arange(19, dtype=np.uint8).reshape(1, 19)
    written = submission.add(images[0], label_map)
    assert written == tmp_path / "out" / images[0].name
    assert np.asarray(Image.open(written)).tolist() == [list(CITYSCAPES_RAW_IDS)]


def test_a_submission_that_lacks_an_image_holds_the_others(tmp_path: Path) -> None:
    images = [tmp_path / f"a_{i}_2_leftImg8bit.png" for i in range(3)]
    submission = Submission(tmp_path / "out", CITYSCAPES, images)
    submission.path_of(images[0]).mkdir(parents=True)
    label_map = np.zeros((2, 3), np.uint8)
    found = Segmentation(label_map, np.zeros((2, 3, 3), np.uint8), CITYSCAPES, (2, 3))
    predictions = [Prediction(Sample(image, None, image.stem), found) for image in images]
    predictions[1] = Prediction(predictions[1].sample, error="it is damaged")
    with pytest.raises(CheckFailed, match="2 of 3 images are missing"):
        submission.add_all(predictions)
    assert submission.path_of(images[2]).is_file()


@pytest.mark.parametrize(
    ("table", "names", "message"),
    [
        (generic_table(19), ["a_1_2_leftImg8bit.png"], "19 classes"),
        (CITYSCAPES, ["street.png"], "CITY_SEQUENCE_FRAME"),
        (CITYSCAPES, ["x/a_1_2_leftImg8bit.png", "y/a_1_2_leftImg8bit.png"], "share a name"),
        (CITYSCAPES, ["x/a_1_2_leftImg8bit.png", "y/A_1_2_leftImg8bit.png"], "share a name"),
    ],
)
def test_what_the_server_would_not_take(
    table,
    names: list[str],
    message: str,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    with pytest.raises(UsageError, match=message):
        Submission(tmp_path, table, [Path(name) for name in names])


def image_counts(name: str, right: int, wrong: int) -> ImageCounts:
    """Two classes; `wrong` pixels of class 0 were predicted as class 1."""
    return ImageCounts(
        np.array([right, right]),
        np.array([right, right + wrong]),
        np.array([right + wrong, right]),
        name,
    )


def evaluation_of(images: list[ImageCounts], protocol: str = "whole") -> Evaluation:
    right = sum(int(image.intersection[0]) for image in images)
    wrong = sum(int(image.prediction_pixels[1] - image.intersection[1]) for image in images)
    counts = np.array([[right, wrong], [0, right]])
    return Evaluation(generic_table(2), counts, "skip", tuple(images), protocol, ("8x8",))


def test_shelves_keep_the_worst_and_the_best(tmp_path: Path) -> None:
    shelf, other = PictureShelf(generic_table(2)), PictureShelf(generic_table(2))
    picture, label = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    for i in range(12):
        sample = FakeSample(tmp_path / f"{i}.png", None, f"image_{i}")
        counts = image_counts(sample.name, 10, i)  # the later, the worse
        prediction = Prediction(sample, Segmentation(label, picture, generic_table(2), (8, 8)))
        (shelf if i % 2 else other).add(prediction, label, counts)
    shelf.merge(other)
    (_, worst), (_, best) = shelf.shelves()
    assert [p.name for p in worst] == [f"image_{i}" for i in (11, 10, 9, 8)]
    assert [p.name for p in best] == [f"image_{i}" for i in (0, 1, 2, 3)]
    assert len(worst) == PICTURED


def test_an_image_of_ignored_pixels_has_no_mean_iou() -> None:
    zero = np.zeros(2, np.int64)
    assert np.isnan(ImageCounts(zero, zero, zero, "x").mean_iou())


def test_report_escapes_names(tmp_path: Path) -> None:
    findings = Findings(generic_table(2), None, with_loss=False)
    label = np.zeros((8, 8), np.uint8)
    sample = FakeSample(tmp_path / "x.png", None, "<script>alert(1)</script>")
    counts = image_counts(sample.name, 3, 1)
    picture = np.zeros((8, 8, 3), np.uint8)
    prediction = Prediction(sample, Segmentation(label, picture, generic_table(2), (8, 8)))
    findings.watch(prediction, label, counts)
    evaluation = evaluation_of([counts])
    page = report_html("<b>title</b>", evaluation, findings.figures(evaluation), findings)
    assert "<script>" not in page and "<b>title" not in page
    assert page.count('class="legend"') == 1 and "class_0\n100.00%" in page
    assert "<th>share</th>" in page and "57.1%" in page
    assert "&lt;script&gt;" in page and page.count("<svg") == 2


def test_compare_aligns_images_by_name() -> None:
    first = evaluation_of([image_counts("a", 10, 5), image_counts("b", 10, 0)]).to_json()
    images = [image_counts("b", 10, 4), image_counts("a", 10, 5), image_counts("c", 1, 1)]
    second = evaluation_of(images, "ss").to_json()
    result = compare(first, second, resamples=50)
    assert result["num_images"] == 2 and result["only_in_second"] == 1
    moved = {row["name"]: row["difference"] for row in result["images"]}
    assert moved["a"] == 0.0 and moved["b"] < 0
    text = "\n".join(comparison_lines(result))
    assert "images whose mIoU moved: 1 of 2" in text and "the protocols differ" in text


def test_one_image_shows_nothing_beyond_chance() -> None:
    runs = [evaluation_of([image_counts("a", 10, hits)]).to_json() for hits in (2, 9)]
    result = compare(*runs, resamples=50)
    difference = result["mean_iou_difference"]
    assert difference["value"] != 0 and difference["low"] is None and not result["beyond_chance"]
    assert comparison_lines(result)[-1].endswith("one image has no interval")


def test_compare_refuses_other_classes_rules_and_images() -> None:
    first = evaluation_of([image_counts("a", 10, 5)]).to_json()
    for change in ({"absent": "zero"}, {"class_names": ["x", "y"]}):
        with pytest.raises(UsageError, match=next(iter(change))):
            compare(first, first | change, 10)
    with pytest.raises(UsageError, match="no image in common"):
        compare(first, evaluation_of([image_counts("z", 10, 5)]).to_json(), 10)


def test_merging_shares_checks_that_each_image_is_there_once() -> None:
    parts = [
        evaluation_of([image_counts("a", 1, 2), image_counts("c", 3, 4)]),
        evaluation_of([image_counts("b", 5, 6)]),
        evaluation_of([]),
    ]
    merged = merge_evaluations(parts, ["a", "b", "c"])
    assert [image.name for image in merged.images] == ["a", "b", "c"]
    np.testing.assert_array_equal(merged.counts, [[9, 12], [0, 9]])
    with pytest.raises(CheckFailed, match="4 images are expected, 3 were scored"):
        merge_evaluations(parts, ["a", "b", "c", "d"])
    with pytest.raises(CheckFailed, match="4 were scored"):
        merge_evaluations([*parts, parts[1]], ["a", "b", "c"])


def test_cv2_writes_what_pil_reads(tmp_path: Path) -> None:
    """The submission is written by OpenCV: one channel, 8 bits, as the server wants it."""
    images = [tmp_path / "a_1_2_leftImg8bit.png"]
    written = Submission(tmp_path / "out", CITYSCAPES, images).add(
        images[0], np.zeros((4, 6), np.uint8)
    )
    assert Image.open(written).mode == "L"
    assert cv2.imread(str(written), cv2.IMREAD_UNCHANGED).shape == (4, 6)
