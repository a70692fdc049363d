"""A bundle whose logits are upsampled by post-processing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from paddleseg_ext.common.errors import UsageError

from .conftest import Deployment, load_script


def infer(deployment: Deployment, deploy_file: Path, save_dir: Path, *flags: str) -> int:
    argv = ["--config", deploy_file, "--image_path", deployment.list, "--save_dir", save_dir]
    return load_script("infer").main([*map(str, argv), "--device", "cpu", *flags])


@pytest.mark.parametrize("resizing", [False, True])
def test_the_label_maps_are_those_of_the_graph(
    deployment: Deployment, tmp_path: Path, resizing: bool
) -> None:
    config = deployment.resizing_config if resizing else deployment.config
    host = deployment.export(config, upsample="host")
    content = yaml.safe_load(host.read_text())
    assert content["Manifest"]["postprocess"]["upsampling"] == "aligned"
    assert infer(deployment, host, tmp_path / "host") == 0
    assert infer(deployment, deployment.export(config), tmp_path / "graph") == 0
    maps = sorted((tmp_path / "graph" / "label_maps").rglob("*.png"))
    assert len(maps) == 3
    different = 0
    for path in maps:
        other = tmp_path / "host" / path.relative_to(tmp_path / "graph")
        expected, got = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (path, other))
        different += np.count_nonzero(expected != got)
    assert different <= 2  # two ways of rounding


def test_other_protocols_want_the_logits_of_the_graph(
    deployment: Deployment, tmp_path: Path
) -> None:
    host = deployment.export(deployment.config, upsample="host")
    with pytest.raises(UsageError, match="export with --upsample graph"):
        infer(deployment, host, tmp_path, "--protocol", "scale_0.5")
