"""What val.py can do beside counting: protocols, pages, submissions, comparisons, processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from commands import PROJECT
from PIL import Image

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.scoring.protocols import PROTOCOLS

from .browser import count_images
from .conftest import SIZES_HW, Deployment, load_script

PICTURES = 3 * 4 + 5 * 3  # of the images, and of the worst image of each class
SLIDING = ["--crop_size", "64", "48", "--stride", "48", "32"]


def run_val(deployment: Deployment, save_dir: Path, *flags: str) -> dict:
    arguments = ["--config", str(deployment.config), "--model_path", str(deployment.weights)]
    load_script("val").main([*arguments, "--save_dir", str(save_dir), "--device", "cpu", *flags])
    return json.loads((save_dir / "val.json").read_text())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_runs_and_names_itself(
    name: str, deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = {
        "slide": SLIDING,
        "mmseg_slide": SLIDING,
        "ssc": ["--crop_size", "64", "64"],
        "mscf": ["--crop_size", "64", "64"],
        "torchseg": ["--crop_size", "64", "64", "--flip_horizontal"],
    }.get(name, [])
    result = run_val(deployment, tmp_path, "--protocol", name, *flags)["evaluation"]
    pixels = sum((h - 4) * w for h, w in SIZES_HW)
    assert result["protocol"].startswith(f"{name} (")
    assert f"protocol: {name} (" in capsys.readouterr().out
    assert result["input_sizes"] == ["96x64", "80x48"]
    scored = np.sum(result["confusion_matrix"])
    assert scored == pixels if name != "label_1_8" else 0 < scored <= pixels // 64 + 40


def test_whole_is_what_training_scores(deployment: Deployment, tmp_path: Path) -> None:
    counts = [
        run_val(deployment, tmp_path / str(i), *flags)["evaluation"]["confusion_matrix"]
        for i, flags in enumerate(
            (
                [],
                ["--protocol", "whole"],
                ["--protocol", "mmseg_whole"],
                ["--protocol", "slide", "--crop_size", "96", "64", "--stride", "96", "64"],
                ["--aug_eval", "--scales", "1.0"],
                ["--aug_eval", "--flip_horizontal"],
            )
        )
    ]
    assert counts[0] == counts[1] == counts[2] == counts[3] == counts[4] != counts[5]


def test_test_config_of_the_yml_is_the_default(deployment: Deployment, tmp_path: Path) -> None:
    content = yaml.safe_load(deployment.config.read_text())
    content["test_config"] = {"is_slide": True, "crop_size": [64, 48], "stride": [48, 32]}
    config = tmp_path / "sliding.yml"
    config.write_text(yaml.safe_dump(content))
    arguments = ["--config", str(config), "--model_path", str(deployment.weights)]
    load_script("val").main([*arguments, "--save_dir", str(tmp_path), "--device", "cpu"])
    by_yml = json.loads((tmp_path / "val.json").read_text())["evaluation"]
    by_flags = run_val(deployment, tmp_path, "--protocol", "slide", *SLIDING)["evaluation"]
    assert by_yml == by_flags
    load_script("val").main(
        [*arguments, "--save_dir", str(tmp_path), "--device", "cpu", "--is_slide", "False"]
    )
    undone = json.loads((tmp_path / "val.json").read_text())["evaluation"]
    assert undone["protocol"].startswith("whole (")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--protocol", "ss", "--scales", "0.5"], "protocol ss fixes scales"),
        (["--protocol", "slide"], "needs --crop_size"),
        (["--is_slide", "--protocol", "ss"], "contradict"),
        (["--scales", "0.5"], "without --aug_eval"),
        (["--flip_horizontal"], "without --aug_eval"),
        (["--protocol", "slide", "--crop_size", "8", "8", "--stride", "9", "8"], "stride: 1 to 8"),
        (["--crop_size", "64", "48"], "without --is_slide"),
        (["--protocol", "whole", "--stride", "32", "32"], "without --is_slide"),
        (["--protocol", "ss", "--aug_eval"], "--aug_eval does nothing"),
        (["--protocol", "label_1_8", "--save_submission", "{tmp}"], "at 1/8 of the size"),
        (["--save_submission", "{tmp}"], "Cityscapes' 19 classes"),
    ],
)
def test_contradictions_are_refused(
    flags: list[str], message: str, deployment: Deployment, tmp_path: Path
) -> None:
    flags = [flag.format(tmp=tmp_path) for flag in flags]
    with pytest.raises(UsageError) as caught:
        run_val(deployment, tmp_path, *flags)
    assert message in str(caught.value)


def test_protocols_start_from_the_full_image(deployment: Deployment, tmp_path: Path) -> None:
    arguments = ["--config", str(deployment.resizing_config), "--save_dir", str(tmp_path)]
    arguments += ["--model_path", str(deployment.weights), "--protocol", "ss", "--device", "cpu"]
    with pytest.raises(UsageError, match="image at its own size"):
        load_script("val").main(arguments)


@pytest.mark.parametrize("name", ["ss", "scale_0.5", "half_resize"])
def test_a_bundle_gives_the_same_by_protocol(
    name: str, deployment: Deployment, bundle: Path, tmp_path: Path
) -> None:
    eager = run_val(deployment, tmp_path / "val", "--protocol", name)["evaluation"]
    arguments = ["--config", str(bundle), "--image_path", str(deployment.list), "--device", "cpu"]
    arguments += ["--protocol", name, "--save_dir", str(tmp_path / "infer")]
    assert load_script("infer").main(arguments) == 0
    deployed = json.loads((tmp_path / "infer" / "inference.json").read_text())["evaluation"]
    assert deployed == eager


def test_a_bundle_of_class_ids_has_no_protocols(
    deployment: Deployment, bundle: Path, tmp_path: Path
) -> None:
    for file in bundle.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = yaml.safe_load(bundle.read_text())
    content["Deploy"]["output_op"] = "argmax"
    content["Manifest"]["postprocess"]["output_op"] = "argmax"
    deploy = tmp_path / "deploy.yaml"
    deploy.write_text(yaml.safe_dump(content))
    arguments = ["--config", str(deploy), "--image_path", str(deployment.list), "--device", "cpu"]
    with pytest.raises(UsageError, match="--output_op none"):
        load_script("infer").main([*arguments, "--protocol", "ss", "--save_dir", str(tmp_path)])


def test_figures_report_and_comparison(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--bootstrap", "200", "--boundary_f1", "--boundary_iou"]
    flags += ["--report", str(tmp_path / "page")]
    first = run_val(deployment, tmp_path / "a", *flags)
    second = tmp_path / "second"
    mirrored = ["--aug_eval", "--flip_horizontal", "--report", str(second)]
    assert "images_by_loss" not in run_val(deployment, tmp_path / "b", *mirrored)
    interval = first["bootstrap"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert interval["value"] == pytest.approx(first["evaluation"]["scores"]["mean_iou"])
    assert len(first["boundary_f1"]["class_boundary_f1"]) == 5
    assert len(first["boundary_iou"]["class_boundary_iou"]) == 5
    assert "categories" not in first
    page = (tmp_path / "page" / "report.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == PICTURES
    losses = [row["loss"] for row in first["images_by_loss"]]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True)
    missed = first["confusions"][0]["missed_as"][0]
    assert missed["pixels"] == max(first["evaluation"]["confusion_matrix"][0][1:])
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)

    capsys.readouterr()
    files = [str(tmp_path / name / "val.json") for name in ("a", "b")]
    load_script("val").main(["--compare", *files, "--save_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "class_4" in printed and "mIoU second - first:" in printed
    assert "the protocols differ" in printed
    result = json.loads((tmp_path / "compare.json").read_text())
    scores = [json.loads(Path(f).read_text())["evaluation"]["scores"]["mean_iou"] for f in files]
    assert result["mean_iou_difference"]["value"] == pytest.approx(scores[1] - scores[0])
    load_script("val").main(["--compare", *files, "--report", str(second)])
    page = (second / "compare.html").read_text()
    assert "pixels gained" in page and "<h2>Most" in page and page.count("<img ") % 5 == 0
    capsys.readouterr()
    load_script("val").main(["--compare", files[0], files[0]])
    assert "within chance" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "message"), [(255, "no labelled pixel"), (0, "only 'class_0'")])
def test_labels_that_cannot_be_meant_are_no_figure(
    value: int, message: str, deployment: Deployment, tmp_path: Path
) -> None:
    """Void everywhere, as the Cityscapes test split has them, and masks of 0 and 255."""
    label = np.full(SIZES_HW[0], 255, np.uint8)
    label[:8] = value
    cv2.imwrite(str(tmp_path / "label.png"), label)
    listed = tmp_path / "some.list"
    listed.write_text(f"{deployment.list.parent}/city0/frame.png {tmp_path / 'label.png'}\n")
    with pytest.raises(UsageError, match=f"some.list: {message}"):
        run_val(deployment, tmp_path, "--image_list", str(listed), "--absent_class", "one")
    assert not (tmp_path / "val.json").exists()


def test_the_report_opens_in_a_browser(deployment: Deployment, tmp_path: Path) -> None:
    run_val(deployment, tmp_path, "--report", str(tmp_path / "page"))
    page = (tmp_path / "page" / "report.html").read_text()
    assert count_images(page, tmp_path) == (PICTURES, PICTURES)


def test_comparing_what_cannot_be_compared(tmp_path: Path) -> None:
    wrong = tmp_path / "x.json"
    counts = {"intersection": [1], "prediction_pixels": [1], "label_pixels": [1]}
    for content in ({}, {"evaluation": {"images": [{"name": "a", **counts}]}}):
        wrong.write_text(json.dumps(content))
        with pytest.raises(UsageError, match="holds no scored run"):
            load_script("val").main(["--compare", str(wrong), str(wrong)])


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_count_every_image_once(
    processes: int, deployment: Deployment, tmp_path: Path
) -> None:
    """Three images on two and on four processes: uneven shares, and one without any."""
    flags = ["--boundary_f1", "--boundary_iou", "--report", str(tmp_path / "page")]
    alone = run_val(deployment, tmp_path / "alone", *flags)
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node"]
    command += [str(processes), "--log_dir", str(tmp_path / "log"), str(PROJECT / "val.py")]
    command += ["--config", str(deployment.config), "--model_path", str(deployment.weights)]
    command += ["--save_dir", str(tmp_path / "together"), "--device", "cpu", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    together = json.loads((tmp_path / "together" / "val.json").read_text())
    assert together["evaluation"] == alone["evaluation"]
    assert together["boundary_f1"]["mean_boundary_f1"] == pytest.approx(
        alone["boundary_f1"]["mean_boundary_f1"], rel=1e-12
    )
    assert together["boundary_iou"] == alone["boundary_iou"]
    page = (tmp_path / "page" / "report.html").read_text()
    assert "boundary IoU" in page
    assert page.count("<img ") == PICTURES
    for key in ("images_by_loss", "confusions"):
        assert together[key] == alone[key]
    assert len(list((tmp_path / "together/label_maps").rglob("*.png"))) == 3


def test_images_without_labels_are_predicted_for_the_server(tmp_path: Path) -> None:
    """The test server's images have no labels here; a network of 19 classes predicts them."""
    import paddle

    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights
    from paddleseg_ext.config import load_config
    from paddleseg_ext.models.build import build_model

    name = "berlin_000000_000019_leftImg8bit"
    image = tmp_path / "data" / "leftImg8bit" / "test" / "berlin" / f"{name}.png"
    image.parent.mkdir(parents=True)
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    content = {
        "val_dataset": {
            "type": "Cityscapes",
            "dataset_root": str(tmp_path / "data"),
            "mode": "test",
            "transforms": [{"type": "Normalize"}],
        },
        "model": {"type": "BiSeNetV1", "backbone": {"type": "ResNet18"}},
    }
    config = tmp_path / "test.yml"
    config.write_text(yaml.safe_dump(content))
    paddle.seed(1)
    weights = tmp_path / "model.pdparams"
    save_weights(build_model(load_config(config), 19), weights, CheckpointManifest(iteration=0))
    arguments = ["--config", str(config), "--model_path", str(weights), "--device", "cpu"]
    arguments += ["--save_dir", str(tmp_path / "val")]
    with pytest.raises(UsageError, match="1 of 1 images have no label"):
        load_script("val").main(arguments)
    with pytest.raises(UsageError, match="is an input, and a result would"):
        load_script("val").main([*arguments, "--save_submission", str(image.parent)])
    arguments += ["--save_submission", str(tmp_path / "sent")]
    of_labels = (["--report", str(tmp_path / "page")], ["--boundary_f1"], ["--boundary_iou"])
    for asked in (*of_labels, ["--bootstrap", "9"], ["--auc_roc"]):
        with pytest.raises(UsageError, match=f"{asked[0]} needs labels"):
            load_script("val").main([*arguments, *asked])
    load_script("val").main(arguments)
    ids = np.asarray(Image.open(tmp_path / "sent" / f"{name}.png"))
    assert ids.shape == (64, 96) and np.isin(ids, range(7, 34)).all()
    assert not (tmp_path / "val" / "val.json").exists()

    void = Path(str(image).replace("leftImg8bit", "gtFine")[:-4] + "_labelTrainIds.png")
    void.parent.mkdir(parents=True)  # as the publisher ships it
    cv2.imwrite(str(void), np.full((64, 96), 255, np.uint8))
    (tmp_path / "sent" / f"{name}.png").unlink()
    load_script("val").main(arguments)
    assert (np.asarray(Image.open(tmp_path / "sent" / f"{name}.png")) == ids).all()
    with pytest.raises(UsageError, match="no labelled pixel"):
        load_script("val").main(arguments[:-2])


def test_the_official_cityscapes_script_agrees(shared_dir: Path, tmp_path: Path) -> None:
    """Labels with errors put in, submitted: the test server's own script gives our figures."""
    pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    from paddleseg_ext.data.datasets import Cityscapes
    from paddleseg_ext.evaluation.categories import category_scores
    from paddleseg_ext.evaluation.evaluator import Scorer
    from paddleseg_ext.evaluation.submission import Submission
    from paddleseg_ext.images.labels import decode_label

    # The script scores labelIds; labelTrainIds files may be of another rendering of the polygons.
    root = str(shared_dir / "data" / "cityscapes")
    dataset = Cityscapes(root, mode="val", label_kind="labelIds")
    table = dataset.class_table
    images = [sample.image for sample in dataset.samples]
    submission = Submission(tmp_path / "results", table, images)
    scorer = Scorer(table)
    rng = np.random.default_rng(0)
    for sample in dataset.samples:
        label = decode_label(sample.label, table)
        wrong = rng.integers(0, 18, (label.shape[0] // 16, label.shape[1] // 16), dtype=np.uint8)
        wrong = cv2.resize(wrong, label.shape[::-1], interpolation=cv2.INTER_NEAREST)
        keep = (rng.random(label.shape) < 0.7) & (label != 255)
        label_map = np.where(keep, label, wrong).astype(np.uint8)
        scorer.add(sample, label_map)
        written = submission.add(sample.image, label_map)
        assert np.isin(np.unique(np.asarray(Image.open(written))), range(7, 34)).all()

    official = run_official_script(shared_dir, tmp_path)
    evaluation = scorer.result()
    ours = dict(zip(table.class_names, evaluation.scores.class_iou, strict=True))
    for name, value in official["classScores"].items():
        if name in ours:
            assert ours[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert evaluation.scores.mean_iou == pytest.approx(official["averageScoreClasses"], abs=1e-6)
    names, scores = category_scores(evaluation.counts, table, "skip") or ((), None)
    assert scores is not None and len(names) == 7
    for name, value in zip(names, scores.class_iou, strict=True):
        assert value == pytest.approx(official["categoryScores"][name], abs=1e-6)


def run_official_script(shared_dir: Path, tmp_path: Path) -> dict:
    environment = os.environ | {
        "CITYSCAPES_DATASET": str(shared_dir / "data" / "cityscapes"),
        "CITYSCAPES_RESULTS": str(tmp_path / "results"),
        "CITYSCAPES_EXPORT_DIR": str(tmp_path),
    }
    module = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    # Its release 2.3 calls a function of NumPy that 2.4 has under its newer name alone.
    code = f"import numpy, runpy; numpy.in1d = numpy.isin; runpy.run_module('{module}', "
    code += "run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "resultPixelLevelSemanticLabeling.json").read_text())
