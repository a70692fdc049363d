"""The walk of docs/own_data.md: from a tool's export of colour masks to a proven bundle."""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import PROJECT, call

from paddleseg_ext.images.labels import CAMVID

PAGE = PROJECT / "docs/own_data.md"
SIZE_WH = (240, 180)  # half of CamVid's, so that minutes of a CPU are enough
LEAST_MIOU = 0.4  # of the five classes; 0.6071 was measured, one class everywhere has 0.08


def write_cvat_export(camvid: Path, root: Path) -> None:
    """CamVid's frames at half size as CVAT's "Segmentation mask 1.1"."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    palette = CAMVID.full_palette
    lines = [
        f"{name}:{r},{g},{b}::"
        for name, (r, g, b) in zip(CAMVID.class_names, CAMVID.palette, strict=True)
    ]
    text = "\n".join(["# label:color_rgb:parts:actions", *lines, "void:0,0,0::"])
    (root / "labelmap.txt").write_text(text + "\n")
    for split in ("train", "val"):
        names = []
        for path in sorted((camvid / split).glob("*.png")):
            label = cv2.imread(str(camvid / f"{split}annot" / path.name), cv2.IMREAD_UNCHANGED)
            label = cv2.resize(label, SIZE_WH, interpolation=cv2.INTER_NEAREST)
            image = cv2.resize(cv2.imread(str(path)), SIZE_WH, interpolation=cv2.INTER_AREA)
            colours = np.ascontiguousarray(palette[label][:, :, ::-1])
            cv2.imwrite(str(root / f"JPEGImages/{path.stem}.jpg"), image)
            cv2.imwrite(str(root / f"SegmentationClass/{path.stem}.png"), colours)
            names.append(path.stem)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")


def block(language: str) -> str:
    """The walk's block of a language on the page."""
    walk = PAGE.read_text().partition("## The whole way")[2]
    found = re.search(rf"^```{language}\n(.*?)^```", walk, re.DOTALL | re.MULTILINE)
    assert found, language
    return found[1]


def commands() -> list[list[str]]:
    joined = block("console").replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in joined if line.strip()]


def test_the_walk_has_ten_commands_at_most() -> None:
    assert 5 <= len(commands()) <= 10
    assert all(parts[0] == "paddleseg-ext" for parts in commands())


@pytest.mark.slow
def test_the_walk(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cvat_export(shared_dir / "data" / "camvid", tmp_path / "street")
    (tmp_path / "five.yml").write_text(block("yaml"))
    for parts in commands():
        done = call("paddleseg_ext", *parts[1:])
        assert done.status == 0, f"{' '.join(parts)}\n{done.out[-1500:]}\n{done.err[-1500:]}"
    scores = json.loads((tmp_path / "output/val/val.json").read_text())["evaluation"]["scores"]
    assert scores["mean_iou"] > LEAST_MIOU and len(scores["class_iou"]) == 5
    results = json.loads((tmp_path / "output/parity/results.json").read_text())
    assert results["grade"] in ("identical", "near-tie")
    for made in ("samples.png", "val/report.html", "audit/audit.html", "infer/overlays"):
        assert (tmp_path / "output" / made).exists(), made
    shutil.rmtree(tmp_path / "output")
