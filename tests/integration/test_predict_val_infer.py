"""The three commands that predict, run in this process on one small trained-by-nobody network."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from paddleseg_ext.common.errors import UsageError

from .conftest import NUM_CLASSES, SIZES_HW, Deployment, load_script


def run_val(deployment: Deployment, save_dir: Path, *flags: str) -> dict:
    config = deployment.resizing_config if "resizing" in flags else deployment.config
    flags = tuple(flag for flag in flags if flag != "resizing")
    arguments = ["--config", str(config), "--model_path", str(deployment.weights)]
    load_script("val").main([*arguments, "--save_dir", str(save_dir), "--device", "cpu", *flags])
    return json.loads((save_dir / "val.json").read_text())


def run_infer(bundle: Path, images: Path, save_dir: Path, *flags: str) -> tuple[int, dict]:
    arguments = ["--config", str(bundle), "--image_path", str(images), "--save_dir", str(save_dir)]
    status = load_script("infer").main([*arguments, "--device", "cpu", *flags])
    return status, json.loads((save_dir / "inference.json").read_text())


def test_the_three_commands_count_alike(
    deployment: Deployment, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Equal label maps, equal counts, equal printed arrays: eager, oneDNN off and on, batches."""
    validated = run_val(deployment, tmp_path / "val", "--num_workers", "2")
    printed = capsys.readouterr().out
    assert re.search(
        r"\[EVAL\] #Images: 3 mIoU: 0\.\d{4} Acc: 0\.\d{4} Kappa: -?0\.\d{4} Dice: 0\.\d{4}",
        printed,
    )
    assert re.search(r"\[EVAL\] Class IoU: \n\[.*\]\n", printed)

    arguments = ["--config", str(deployment.config), "--model_path", str(deployment.weights)]
    arguments += ["--image_path", str(deployment.list), "--save_dir", str(tmp_path / "predict")]
    assert load_script("predict").main([*arguments, "--batch_size", "2", "--device", "cpu"]) == 0
    predicted = section(capsys.readouterr().out, "#predict")

    counts = validated["evaluation"]["confusion_matrix"]
    assert np.sum(counts) == sum((h - 4) * w for h, w in SIZES_HW)
    for onednn in ("False", "True"):
        save_dir = tmp_path / f"infer_{onednn}"
        status, result = run_infer(
            bundle, deployment.list, save_dir, "--enable_mkldnn", onednn, "--batch_size", "2"
        )
        assert status == 0
        assert result["backend"]["enable_mkldnn"] is (onednn == "True")
        assert result["evaluation"]["confusion_matrix"] == counts
        assert section(capsys.readouterr().out, "#inference") == predicted
        for i, size_hw in enumerate(SIZES_HW):
            ours = Image.open(save_dir / f"label_maps/city{i}/frame.png")
            assert ours.mode == "P" and ours.size == size_hw[::-1]
            theirs = Image.open(tmp_path / f"predict/label_maps/city{i}/frame.png")
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
            overlay = cv2.imread(str(save_dir / f"overlays/city{i}/frame.jpg"))
            assert overlay.shape == (*size_hw, 3)


def section(printed: str, title: str) -> list[str]:
    """The lines below `#predict` or `#inference`, with the two arrays under their names."""
    lines = printed.splitlines()
    found = lines[lines.index(title) + 1 : lines.index(title) + 6]
    assert found[1] == "Class IoU:" and found[3] == "Class Acc:"
    for array in (found[2], found[4]):
        assert re.fullmatch(rf"\[( ?0\.\d* *){{{NUM_CLASSES}}}\]", array), array
    return found


def test_argmax_bundle_equals_val_with_output_op_argmax(
    deployment: Deployment, tmp_path: Path
) -> None:
    deploy = deployment.export(deployment.resizing_config, "argmax")
    assert yaml.safe_load(deploy.read_text())["Manifest"]["postprocess"]["resize_back"] == (
        "nearest labels"
    )
    _, exported = run_infer(deploy, deployment.list, tmp_path / "infer")
    nearest = run_val(deployment, tmp_path / "a", "resizing", "--output_op", "argmax")
    bilinear = run_val(deployment, tmp_path / "b", "resizing")
    counts = exported["evaluation"]["confusion_matrix"]
    assert counts == nearest["evaluation"]["confusion_matrix"]
    assert counts != bilinear["evaluation"]["confusion_matrix"]


def test_one_unreadable_image_and_one_wrong_label(
    bundle: Path, deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    wrong = tmp_path / "wrong_label.png"
    cv2.imwrite(str(wrong), np.full(SIZES_HW[0], 77, np.uint8))
    data = deployment.list.parent
    lines = [
        f"{data}/city0/frame.png {data}/city0/frame_label.png",
        f"{broken} {data}/city0/frame_label.png",
        f"{data}/city2/frame.png {wrong}",
        f"{data}/city1/frame.png {data}/city1/frame_label.png",
        f"{tmp_path}/missing.png",
    ]
    listed = tmp_path / "infer.list"
    listed.write_text("\n".join(lines))
    status, result = run_infer(bundle, listed, tmp_path / "out", "--batch_size", "4")
    assert status == 1
    assert result["evaluation"]["num_images"] == 2
    assert len(result["errors"]) == 3
    printed = capsys.readouterr().out
    for path in (broken, wrong, tmp_path / "missing.png"):
        assert any(str(path) in line for line in printed.splitlines() if "[ERROR]" in line)
    assert "77" in printed and "#inference" in printed


def test_val_scores_what_can_be_read(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = deployment.list.parent
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    listed = tmp_path / "val.list"
    lines = [f"{data}/city{i}/frame.png {data}/city{i}/frame_label.png\n" for i in (0, 1)]
    listed.write_text(f"{tmp_path}/broken.png {data}/city0/frame_label.png\n" + "".join(lines))
    arguments = ["--config", str(deployment.config), "--model_path", str(deployment.weights)]
    arguments += ["--image_list", str(listed), "--save_dir", str(tmp_path), "--device", "cpu"]
    assert load_script("val").main(arguments) == 1
    result = json.loads((tmp_path / "val.json").read_text())
    assert result["evaluation"]["num_images"] == 2
    assert [error.startswith(f"{tmp_path}/broken.png") for error in result["errors"]] == [True]
    assert "1 of 3 samples failed" in capsys.readouterr().out
    listed.write_text(f"{tmp_path}/broken.png {data}/city0/frame_label.png\n")
    with pytest.raises(UsageError, match=r"broken\.png"):
        load_script("val").main(arguments)


def test_benchmark_sections(bundle: Path, deployment: Deployment, tmp_path: Path) -> None:
    log = tmp_path / "benchmark.log"
    flags = ["--benchmark=True", "--save_log_path", str(log), "--model_name", "tiny"]
    flags += ["--backend", "paddle"]
    status, result = run_infer(bundle, deployment.list, tmp_path / "out", *flags)
    assert status == 0
    text = log.read_text()
    titles = re.findall(r"-{5,} (\w+ info) -{5,}", text)
    assert titles == ["Paddle info", "Conf info", "Model info", "Data info", "Perf info"]
    assert "model_name: tiny" in text and "enable_mkldnn: False" in text
    assert re.search(r"inference\(ms\): p50: [\d.]+, p90: [\d.]+, p99: [\d.]+", text)
    last = text.splitlines()[-1]
    number = r"\d+\.\d+"
    assert re.fullmatch(
        f"preprocess_time\\(ms\\): {number}, inference_time\\(ms\\): {number}, "
        f"postprocess_time\\(ms\\): {number}",
        last,
    )
    assert result["timings_ms"]["inference"]["mean"] > 0


def test_a_bundle_of_paddlesegs_without_manifest(
    bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in bundle.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = yaml.safe_load(bundle.read_text())
    del content["Manifest"]
    content["Deploy"]["model"] = "model.pdmodel"
    (folder / "deploy.yaml").write_text(yaml.safe_dump(content))
    status, result = run_infer(folder / "deploy.yaml", deployment.list, tmp_path / "out")
    assert status == 0
    assert result["evaluation"]["class_names"] == [f"class_{i}" for i in range(NUM_CLASSES)]


def test_a_folder_and_a_single_image(bundle: Path, deployment: Deployment, tmp_path: Path) -> None:
    data = deployment.list.parent
    status, result = run_infer(bundle, data / "city1" / "frame.png", tmp_path / "one")
    assert status == 0 and result["evaluation"] is None and result["num_predicted"] == 1
    assert (tmp_path / "one" / "label_maps" / "frame.png").is_file()


def test_changed_weights_and_dropped_normalize_change_the_counts(
    bundle: Path, deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What makes a bundle wrong shows in its counts, not only in a hash."""
    paddle = ("--backend", "paddle")  # which reads model.pdiparams; auto may take the ONNX graph
    _, right = run_infer(bundle, deployment.list, tmp_path / "right", *paddle)
    folder = tmp_path / "changed"
    folder.mkdir()
    for file in bundle.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = yaml.safe_load(bundle.read_text())
    content["Deploy"]["transforms"] = []
    (folder / "deploy.yaml").write_text(yaml.safe_dump(content))
    _, raw_pixels = run_infer(folder / "deploy.yaml", deployment.list, tmp_path / "raw", *paddle)
    (folder / "deploy.yaml").write_bytes(bundle.read_bytes())
    params = bytearray((folder / "model.pdiparams").read_bytes())
    middle = len(params) // 2 // 4 * 4
    params[middle : middle + 4000] = np.full(1000, 5.0, np.float32).tobytes()
    (folder / "model.pdiparams").write_bytes(bytes(params))
    capsys.readouterr()
    _, changed = run_infer(folder / "deploy.yaml", deployment.list, tmp_path / "weights", *paddle)
    assert "was changed after the export" in capsys.readouterr().out
    matrices = [r["evaluation"]["confusion_matrix"] for r in (right, raw_pixels, changed)]
    assert matrices[0] != matrices[1] and matrices[0] != matrices[2]


def test_wrong_use_of_val(deployment: Deployment, tmp_path: Path) -> None:
    unlabelled = tmp_path / "images.list"
    unlabelled.write_text(f"{deployment.list.parent}/city0/frame.png\n")
    with pytest.raises(UsageError, match="1 of 1 images have no label"):
        run_val(deployment, tmp_path / "out", "--image_list", str(unlabelled))
    with pytest.raises(UsageError, match="does not exist"):
        run_val(deployment, tmp_path / "out", "--image_list", str(tmp_path / "nothing.list"))


def test_no_input_is_replaced_by_its_label_map(
    bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    image = tmp_path / "label_maps/a.png"
    image.parent.mkdir()
    shutil.copy(deployment.list.parent / "city0/frame.png", image)
    before = image.read_bytes()
    common = ["--image_path", str(image), "--save_dir", str(tmp_path), "--device", "cpu"]
    network = ["--config", str(deployment.config), "--model_path", str(deployment.weights)]
    for script, arguments in (("infer", ["--config", str(bundle)]), ("predict", network)):
        with pytest.raises(UsageError, match="is an input"):
            load_script(script).main([*arguments, *common])
    log_path = ["--benchmark", "--save_log_path", str(image), "--save_dir", str(tmp_path / "out")]
    with pytest.raises(UsageError, match="--save_log_path: "):
        load_script("infer").main(["--config", str(bundle), *common, *log_path])
    assert image.read_bytes() == before
    assert not list(tmp_path.rglob("*.json")) and not (tmp_path / "overlays").exists()


def test_predict_explains(deployment: Deployment, tmp_path: Path) -> None:
    """Label maps are those of a run without it; what is wrong is found before anything is made."""
    arguments = ["--config", str(deployment.config), "--model_path", str(deployment.weights)]
    arguments += ["--image_path", str(deployment.list), "--device", "cpu", "--save_dir"]
    predict = load_script("predict").main
    assert predict([*arguments, str(tmp_path / "plain")]) == 0
    explained = tmp_path / "explained"
    assert predict([*arguments, str(explained), "--explain", "class_1", "4"]) == 0
    record = json.loads((explained / "explain.json").read_text())
    assert record["layer"].startswith("backbone.layer4")
    for name, (height, width) in zip(record["images"], SIZES_HW, strict=True):
        files = {path.name for path in (explained / "explain" / name).iterdir()}
        gates = {f"gate_{gate}.jpg" for gate in record["gates"]}
        assert files == gates | {"cam_class_1.jpg", "cam_class_4.jpg"} and len(gates) == 3
        picture = cv2.imread(str(explained / "explain" / name / "gate_ffm.jpg"))
        assert picture.shape[0] > height and picture.shape[1] == width
        maps = [path / "label_maps" / f"{name}.png" for path in (explained, tmp_path / "plain")]
        assert maps[0].read_bytes() == maps[1].read_bytes()
    for flags, words in (
        (["--explain", "clas_1"], "did you mean 'class_1'"),
        (["--explain", "--explain_layer", "fmm"], "did you mean 'ffm'"),
        (["--explain_layer", "ffm"], "--explain_layer does nothing without --explain"),
    ):
        with pytest.raises(UsageError, match=words):
            predict([*arguments, str(tmp_path / "wrong"), *flags])
    assert not list((tmp_path / "wrong").rglob("*.*"))
