"""`train.py --to_static True`: the static graph is what runs, and it trains the same weights."""

from pathlib import Path

import pytest
import yaml
from commands import PROJECT, call


def write_config(data: Path, path: Path) -> Path:
    """BiSeNetV2, which has a loop over its heads in training, on 64x32 crops of `data`."""
    crop = {"type": "RandomPaddingCrop", "crop_size": [64, 32]}
    config = {
        "_base_": str(PROJECT / "configs/bisenetv2/bisenetv2_camvid_256x192_400.yml"),
        "batch_size": 2,
        "train_dataset": {
            "type": "Cityscapes",
            "dataset_root": str(data),
            "transforms": [crop, {"type": "Normalize"}],
        },
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_static_graph_trains_the_same_weights(
    tiny_cityscapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import paddle

    converted = []
    to_static = paddle.jit.to_static
    monkeypatch.setattr(
        paddle.jit,
        "to_static",
        lambda layer, **options: converted.append(to_static(layer, **options)),
    )
    config = write_config(tiny_cityscapes, tmp_path / "v2.yml")
    flags = ("--config", config, "--device", "cpu", "--iters", 2, "--log_iters", 1)
    for name, switch in (("dygraph", ()), ("static", ("--to_static", "True"))):
        finished = call("train.py", *flags, "--save_dir", tmp_path / name, *switch)
        assert finished.status == 0, finished.err
        assert len(converted) == len(switch) // 2
    # The training-mode graph was traced: the flag did something.
    assert len(converted[0].forward.program_cache) == 1
    weights = [
        (tmp_path / name / "iter_2/model.pdparams").read_bytes() for name in ("dygraph", "static")
    ]
    assert weights[0] == weights[1]


def test_several_processes_are_refused(
    tiny_cityscapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    config = write_config(tiny_cityscapes, tmp_path / "v2.yml")
    finished = call("train.py", "--config", config, "--device", "cpu", "--to_static", "True")
    assert finished.status == 2
    assert "--to_static True trains in one process" in finished.err
