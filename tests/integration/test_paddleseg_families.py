"""One network of each family of PaddleSeg's, from its published yml through every command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PROJECT

FAMILIES = {
    "bottlenecks": "configs/fastscnn/fastscnn_cityscapes_1024x1024_160k.yml",
    "two branches": "configs/stdcseg/stdc1_seg_cityscapes_1024x512_80k.yml",
    "high resolution": "configs/fcn/fcn_hrnetw18_voc12aug_512x512_40k.yml",
    "dilated": "configs/quick_start/deeplabv3p_resnet18_os8_optic_disc_512x512_1k_student.yml",
    "flow": "configs/sfnet/sfnet_resnet18_os8_cityscapes_1024x1024_80k.yml",
    "encoder and decoder": "configs/unet/unet_chasedb1_128x128_40k.yml",
    "transformer": "configs/segformer/segformer_b0_cityscapes_1024x1024_160k.yml",
    "mobile": "configs/topformer/topformer_tiny_ade20k_512x512_160k.yml",
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_yml_passes_every_step(family: str, shared_dir: Path, tmp_path: Path) -> None:
    yml = shared_dir / "data/paddleseg_ymls" / FAMILIES[family]
    done = subprocess.run(
        [
            sys.executable, str(PROJECT / "benchmarks/paddleseg_network.py"), str(yml),
            "--data_root", str(tmp_path / "data"), "--save_dir", str(tmp_path),
        ],
        capture_output=True, text=True, cwd=PROJECT, check=False,
    )  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == dict.fromkeys(("trains", "evaluates", "exports", "infers"), ""), done.stderr
