"""Findings of a report beside the scores: confusions, worst images, losses, gained and lost."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.evaluation.class_faults import ClassShelf, confusions
from paddleseg_ext.evaluation.compare_page import changes, comparison_html, read_run
from paddleseg_ext.evaluation.evaluator import Evaluation, Scorer
from paddleseg_ext.evaluation.findings import Findings, finding_lines
from paddleseg_ext.evaluation.image_loss import gives_logits, image_loss
from paddleseg_ext.evaluation.report import report_html
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.pipeline import Prediction
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Segmentation
from paddleseg_ext.inference.preprocess import Geometry, Step
from paddleseg_ext.scoring.protocols import PROTOCOLS, make_protocol

TABLE = generic_table(3, ["sky", "road", "car"])
NAMES = TABLE.class_names


def test_confusions_by_hand() -> None:
    counts = np.array([[80, 15, 5], [0, 0, 0], [30, 0, 10]])
    sky, road, car = confusions(counts, NAMES)
    assert [(c["name"], c["pixels"], c["share"]) for c in sky["missed_as"]] == [
        ("road", 15, 0.15),
        ("car", 5, 0.05),
    ]
    assert [(c["name"], c["share"]) for c in sky["invented_on"]] == [("car", 30 / 110)]
    assert (sky["recall"], road["recall"], car["recall"]) == (0.8, None, 0.25)
    assert road["missed_as"] == [] and road["invented_on"][0]["share"] == 1.0
    assert car["missed_as"][0] == {"name": "sky", "pixels": 30, "share": 0.75}
    assert confusions(np.diag([5, 0, 2]), NAMES)[0]["missed_as"] == []


def prediction_of(
    folder: Path, name: str, label_map: np.ndarray, label: np.ndarray
) -> tuple[Prediction, np.ndarray]:
    image = np.full((*label.shape, 3), 90, np.uint8)
    cv2.imwrite(str(folder / f"{name}.png"), image)
    cv2.imwrite(str(folder / f"{name}_label.png"), label)
    sample = Sample(folder / f"{name}.png", folder / f"{name}_label.png", name)
    return Prediction(sample, Segmentation(label_map, image, TABLE, label.shape)), label


def score(findings: Findings, items: list[tuple[Prediction, np.ndarray]]) -> Evaluation:
    scorer = Scorer(TABLE)
    for prediction, label in items:
        assert prediction.label_map is not None
        counted = scorer.count(prediction.sample, prediction.label_map)
        findings.watch(prediction, label, counted.image)
        scorer.add_counted(counted)
    return scorer.result()


def test_a_class_keeps_the_image_with_most_wrong_pixels(tmp_path: Path) -> None:
    label = np.zeros((20, 30), np.uint8)
    label[:, 20:] = 2
    shelves = [ClassShelf(TABLE), ClassShelf(TABLE)]
    scorer = Scorer(TABLE)
    for number, missed in enumerate((3, 9, 6)):
        found = label.copy()
        found[:missed, 20:] = 1
        prediction, _ = prediction_of(tmp_path, f"image_{number}", found, label)
        counts = scorer.count(prediction.sample, found).image
        shelves[number % 2].add(prediction, label, counts)
    shelves[0].merge(shelves[1])
    worst = {NAMES[number]: image for number, image in shelves[0].images()}
    assert set(worst) == {"road", "car"}  # nothing of the sky is wrong
    assert (worst["car"].name, worst["car"].wrong) == ("image_1", 90)
    assert worst["car"].iou == pytest.approx(110 / 200)
    assert worst["road"].iou == 0.0


def test_the_loss_of_an_image_is_the_mean_over_its_labelled_pixels() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3, 4, 6)).astype(np.float32) * 5
    label = generator.integers(0, 3, (4, 6)).astype(np.uint8)
    label[0, :3] = 255
    geometry = Geometry((4, 6), (4, 6))
    by_hand = []
    for row, column in np.ndindex(4, 6):
        if label[row, column] != 255:
            values = logits[:, row, column].tolist()
            own = values[label[row, column]]
            by_hand.append(math.log(sum(math.exp(v - own) for v in values)))
    loss = image_loss(logits, geometry, label, 255, Postprocess())
    assert loss == pytest.approx(sum(by_hand) / 21, rel=1e-6)
    # At the original size, where the network saw a smaller image.
    resized = Geometry((8, 12), (4, 6), (Step("resize", (8, 12)),))
    full = Postprocess().full_logits(logits, resized)
    large = generator.integers(0, 3, (8, 12)).astype(np.uint8)
    expected = image_loss(full, Geometry((8, 12), (8, 12)), large, 255, Postprocess())
    found = image_loss(logits, resized, large, 255, Postprocess())
    assert found == pytest.approx(expected, rel=1e-6)
    assert math.isnan(image_loss(logits, geometry, np.full((4, 6), 255), 255, Postprocess()))


def test_protocols_whose_scores_are_no_logits_have_no_loss() -> None:
    assert gives_logits(PROTOCOLS["whole"])
    assert gives_logits(make_protocol("slide", crop_size=(8, 8), stride=(8, 8)))
    for name in ("ss", "msf", "torchseg"):
        assert not gives_logits(PROTOCOLS[name])


def runs(folder: Path) -> list[Path]:
    """Two runs of three images; the second gains 4 pixels of the car and loses 2 of the sky."""
    label = np.zeros((8, 10), np.uint8)
    label[4:] = 2
    label[0] = 255
    maps = {
        "first": {"a": label.copy(), "b": label.copy(), "c": label.copy()},
        "second": {"a": label.copy(), "b": label.copy(), "c": label.copy()},
    }
    for found in (m for run in maps.values() for m in run.values()):
        found[0] = 1
    maps["first"]["a"][4, :4] = 0
    maps["second"]["b"][1, :2] = 2
    files = []
    for run, found_by in maps.items():
        findings = Findings(TABLE, folder / run, with_loss=False)
        items = [prediction_of(folder, name, found, label) for name, found in found_by.items()]
        evaluation = score(findings, items)
        path = folder / run / "val.json"
        content = {"evaluation": evaluation.to_json()} | findings.figures(evaluation)
        path.write_text(json.dumps(content))
        files.append(path)
    return files


def test_gained_and_lost_pixels_of_two_runs(tmp_path: Path) -> None:
    first, second = (read_run(path) for path in runs(tmp_path))
    found = {each.name: each for each in changes(first, second)}
    assert found["a"].gained.tolist() == [0, 0, 4] and not found["a"].lost.any()
    assert found["b"].lost.tolist() == [2, 0, 0] and found["b"].net == -2
    assert found["c"].net == 0


def test_label_maps_of_another_run_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (read_run(path) for path in runs(tmp_path))
    changes(first, second)
    assert "val.json counts" not in capsys.readouterr().out
    maps = [tmp_path / run / "label_maps/a.png" for run in ("first", "second")]
    maps[1].write_bytes(maps[0].read_bytes())
    changes(first, second)
    said = capsys.readouterr().out
    assert "second/label_maps: 1 of 3 are not the label maps" in said and "the first: a;" in said
    assert "first/label_maps" not in said


def test_the_page_of_two_runs(tmp_path: Path) -> None:
    from paddleseg_ext.evaluation.compare import compare, comparison_lines, read_evaluation

    files = runs(tmp_path)
    result = {"files": files} | compare(*map(read_evaluation, files), resamples=20)
    first, second = map(read_run, files)
    lines = comparison_lines(result)
    page = comparison_html("Two <runs>", result, first, second, lines)
    assert "Two &lt;runs&gt;" in page and page.count("<img ") == 2 * 5
    assert page.index("Most lost") < page.index("b: 0 pixels gained, 2 lost")
    assert "a: 4 pixels gained, 0 lost" in page and "<td>+4</td>" in page and lines[-1][:4] in page


def test_runs_without_label_maps_are_refused(tmp_path: Path) -> None:
    files = runs(tmp_path)
    content = json.loads(files[0].read_text())
    files[0].write_text(json.dumps({"evaluation": content["evaluation"]}))
    with pytest.raises(UsageError, match="names no label maps: score that run with"):
        read_run(files[0])
    content["pictured"]["samples"] = {"../../x": ["a", "b"]}
    files[0].write_text(json.dumps(content))
    with pytest.raises(UsageError, match="an image and a label per name"):
        read_run(files[0])
    first = read_run(files[1])
    (tmp_path / "second/label_maps/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png"):
        changes(first, first)


def test_the_worst_is_said_on_the_terminal() -> None:
    counts = np.array([[80, 15, 5], [0, 50, 0], [30, 0, 10]])
    objects = {
        "sizes": ["small", "large"],
        "classes": {"car": {"size_recall": [0.125, None], "objects": [3, 0]}},
    }
    losses = [{"name": f"image_{i}", "loss": 9.0 - i} for i in range(8)]
    figures = {
        "confusions": confusions(counts, NAMES),
        "objects": objects,
        "images_by_loss": losses,
    }
    lines = finding_lines(figures)
    assert lines[:3] == [
        "[EVAL] car: 25.0% of its pixels are found; the others are predicted as sky 75.0%",
        "[EVAL] sky: 80.0% of its pixels are found; the others are predicted as road 15.0%, "
        "car 5.0%",
        "[EVAL] car, pixels found by size: small 12.5% of 3 objects",
    ]
    assert lines[3] == "[EVAL] loss 9.0000: image_0" and len(lines) == 3 + 5


def test_objects_and_depth_reach_the_terminal_and_the_page(tmp_path: Path) -> None:
    label = np.zeros((20, 30), np.uint8)
    label[:, 20:] = 2
    found = label.copy()
    found[:5, 20:] = 1
    items = [prediction_of(tmp_path, name, found, label) for name in ("a", "b")]
    depth, ids = np.full((20, 30), 5 * 256, np.uint16), np.zeros((20, 30), np.uint16)
    depth[:10] = 15 * 256
    ids[:, 20:] = 26001
    cv2.imwrite(str(tmp_path / "a_label_depth.png"), depth)
    cv2.imwrite(str(tmp_path / "a_label_instanceIds.png"), ids)
    cv2.imwrite(str(tmp_path / "b_label_depth.png"), depth[:9])  # another size: not counted
    findings = Findings(TABLE, None, with_loss=False)
    evaluation = score(findings, items)
    figures = findings.figures(evaluation)
    assert figures["depth"]["num_images"] == 1
    assert figures["depth"]["classes"]["car"]["recall"] == [1.0, 0.5, None, None]
    lines = finding_lines(figures)
    assert (
        "[EVAL] car, pixels found by distance from the camera: < 10 m 100.0% of 100 pixels, "
        "10 to 20 m 50.0% of 100 pixels" in lines
    )
    assert "[EVAL] car, pixels found by size: small (< 32²) 75.0% of 1 objects" in lines
    page = report_html("title", evaluation, figures, findings)
    assert "Distance from the camera" in page and "50.0% (100 px)" in page
    assert "75.0% (1 objects)" in page
