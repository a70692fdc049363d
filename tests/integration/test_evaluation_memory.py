"""Evaluating takes at most one tensor of logits more than the network alone."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_scoring_full_size_images_holds_at_most_one_more_tensor_of_logits(
    shared_dir: Path, tmp_path: Path
) -> None:
    images = sorted((shared_dir / "data/cityscapes/leftImg8bit/val").glob("*/*.png"))
    lines = []
    for image in images:
        name = image.name.replace("_leftImg8bit.png", "_gtFine_labelTrainIds.png")
        lines.append(
            f"{image} {shared_dir / 'data/cityscapes/gtFine/val' / image.parent.name / name}"
        )
    (tmp_path / "val.list").write_text("\n".join(lines), encoding="utf-8")
    image_list = str(tmp_path / "val.list")
    script = str(ROOT / "benchmarks/evaluation_memory.py")
    run = subprocess.run(
        [sys.executable, script, "--protocols", "ss", "--image_list", image_list],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "tensors of logits" in run.stdout
