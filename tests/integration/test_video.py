"""`infer.py --video` draws what `infer.py --image_path` draws of the same frames."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from paddleseg_ext.common.errors import UsageError

from .conftest import load_script

NUM_FRAMES = 4


def test_overlays_are_those_of_single_images(bundle: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (8, 12 + NUM_FRAMES, 3), dtype=np.uint8)
    video = tmp_path / "in.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    for number in range(NUM_FRAMES):
        part = coarse[:, number : number + 12]
        writer.write(cv2.resize(part, (96, 64), interpolation=cv2.INTER_CUBIC))
    writer.release()
    capture = cv2.VideoCapture(str(video))
    (tmp_path / "frames").mkdir()
    for number in range(NUM_FRAMES):  # as decoded, not as they were before the codec
        cv2.imwrite(str(tmp_path / f"frames/{number}.png"), capture.read()[1])
    save_dir = tmp_path / "out"
    common = ["--config", str(bundle), "--save_dir", str(save_dir), "--device", "cpu"]
    common += ["--print_detail", "False"]
    infer = load_script("infer")
    assert infer.main([*common, "--image_path", str(tmp_path / "frames")]) == 0
    assert infer.main([*common, "--video", str(video)]) == 0
    overlays = cv2.VideoCapture(str(save_dir / "overlays/in.webm"))
    assert overlays.get(cv2.CAP_PROP_FPS) == 10
    assert overlays.get(cv2.CAP_PROP_FRAME_COUNT) == NUM_FRAMES
    for number in range(NUM_FRAMES):
        expected = cv2.imread(str(save_dir / f"overlays/{number}.jpg"))
        difference = np.abs(overlays.read()[1].astype(int) - expected).mean()
        assert difference < 12  # two lossy codecs


def test_a_film_follows_the_bundles_protocol(bundle: Path, tmp_path: Path) -> None:
    """As images do; a protocol that is asked for comes before it."""
    halved = tmp_path / "bundle"
    shutil.copytree(bundle.parent, halved)
    content = yaml.safe_load((halved / "deploy.yaml").read_text())
    content["Manifest"]["evaluation"]["protocol"] = "scale_0.5"
    (halved / "deploy.yaml").write_text(yaml.safe_dump(content))
    coarse = np.random.default_rng(3).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    film, frame = tmp_path / "in.avi", tmp_path / "frame.png"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"FFV1"), 10, (96, 64))
    writer.write(cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC))
    writer.release()
    cv2.imwrite(str(frame), cv2.VideoCapture(str(film)).read()[1])
    infer = load_script("infer")
    common = ["--config", str(halved), "--device", "cpu", "--print_detail", "False"]
    of_film = ["--video", str(film), "--save_label_maps"]
    maps = {}
    for name, flags in {
        "image": ["--image_path", str(frame)],
        "film": of_film,
        "smooth": [*of_film, "--smooth"],
        "whole image": ["--image_path", str(frame), "--protocol", "whole"],
        "whole film": [*of_film, "--protocol", "whole"],
    }.items():
        assert infer.main([*common, *flags, "--save_dir", str(tmp_path / name)]) == 0
        (found,) = (tmp_path / name / "label_maps").rglob("*.png")
        maps[name] = np.asarray(Image.open(found))
    np.testing.assert_array_equal(maps["film"], maps["image"])
    np.testing.assert_array_equal(maps["smooth"], maps["image"])  # its first frame has none before
    np.testing.assert_array_equal(maps["whole film"], maps["whole image"])
    assert (maps["image"] != maps["whole image"]).any()
    record = json.loads((tmp_path / "film/inference.json").read_text())
    assert "scales 0.5" in record["source"]["protocol"]
    with pytest.raises(UsageError, match="take --protocol whole"):
        infer.main([*common, *of_film, "--save_confidence", "--save_dir", str(tmp_path / "none")])


def test_consistency_and_smoothing(bundle: Path, tmp_path: Path) -> None:
    """A still film of noise of its own in every frame: steadier, and it is on record."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(60, 200, (8, 12, 3), dtype=np.uint8)
    still = cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(
        str(tmp_path / "in.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64)
    )
    for _ in range(6):
        writer.write(np.clip(still + rng.normal(0, 12, still.shape), 0, 255).astype(np.uint8))
    writer.release()
    infer = load_script("infer")
    common = ["--config", str(bundle), "--device", "cpu", "--print_detail", "False"]
    found = {}
    for name, flags in {"plain": [], "smooth": ["--smooth"], "much": ["--smooth", "0.8"]}.items():
        folder = tmp_path / name
        given = ["--video", str(tmp_path / "in.mp4"), "--save_dir", str(folder), "--consistency"]
        assert infer.main([*common, *given, *flags]) == 0
        found[name] = json.loads((folder / "inference.json").read_text())
    assert 0.5 < found["plain"]["compared_pixels"] <= 1
    consistency = [found[name]["consistency"] for name in ("plain", "smooth", "much")]
    assert consistency[0] < consistency[1] < consistency[2] <= 1
    assert "smooth" not in found["plain"]["source"]
    assert found["smooth"]["source"]["smooth"] == 0.6 and found["much"]["source"]["smooth"] == 0.8
