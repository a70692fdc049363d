"""PaddleSeg's own networks, from PaddleSeg's form of yml, through our commands."""

from pathlib import Path

import cv2
import pytest
from commands import PROJECT, call
from small_network import CONFIG, write_checkpoint, write_data

SMALL = (
    "train_dataset.transforms.1.crop_size=[64,64]",
    "loss.types.0.min_kept=1000",
)


@pytest.mark.parametrize(
    "config",
    [
        "configs/pp_liteseg/pp_liteseg_stdc1_cityscapes_1024x512_160k.yml",
        "configs/ddrnet/ddrnet23_cityscapes_1024x1024_120k.yml",
    ],
)
def test_trained_exported_inferred(
    tiny_cityscapes_shared: Path, tmp_path: Path, config: str
) -> None:
    data = [f"{split}_dataset.dataset_root={tiny_cityscapes_shared}" for split in ("train", "val")]
    common = ("--config", PROJECT / config)
    trained = call(
        "train.py", *common, "--device", "cpu", "--iters", 2, "--batch_size", 2, "--do_eval",
        "--save_dir", tmp_path / "train",
        # A URL that nobody answers: what PaddleSeg's constructor would fetch is not asked for.
        "--opts", *data, *SMALL, "model.pretrained=null",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    assert "iter: 2/2" in trained.out
    exported = call(
        "export_model.py", *common, "--model_path", tmp_path / "train/best_model/model.pdparams",
        "--save_dir", tmp_path / "bundle", "--opts", *data,
    )  # fmt: skip
    assert exported.status == 0, exported.err
    inferred = call(
        "infer.py", "--config", tmp_path / "bundle/deploy.yaml", "--device", "cpu",
        "--image_path", tiny_cityscapes_shared / "leftImg8bit/val", "--enable_mkldnn", "True",
        "--save_dir", tmp_path / "infer",
    )  # fmt: skip
    assert inferred.status == 0, inferred.err
    maps = sorted((tmp_path / "infer/label_maps").rglob("*.png"))
    assert len(maps) == 2
    assert cv2.imread(str(maps[0]), cv2.IMREAD_UNCHANGED).shape[:2] == (64, 96)


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampled_after_the_graph(align_corners: bool, tmp_path: Path) -> None:
    from paddleseg_ext.config import load_config

    write_data(tmp_path / "data")
    dataset = CONFIG[CONFIG.index("val_dataset:") :]
    dataset = dataset.replace("dataset_root: data", f"dataset_root: {tmp_path}/data")
    yml = tmp_path / "net.yml"
    yml.write_text(f"model: {{type: FastSCNN, align_corners: {align_corners}}}\n{dataset}")
    write_checkpoint(load_config(yml), tmp_path / "model.pdparams")
    for upsample in ("graph", "host"):
        done = call(
            "export_model.py", "--config", yml, "--model_path", tmp_path / "model.pdparams",
            "--save_dir", tmp_path / upsample, "--upsample", upsample, "--fold_normalize", True,
        )  # fmt: skip
        assert done.status == 0, done.err
        done = call(
            "infer.py", "--config", tmp_path / upsample / "deploy.yaml", "--device", "cpu",
            "--image_path", tmp_path / "data", "--save_dir", tmp_path / upsample / "infer",
        )  # fmt: skip
        assert done.status == 0, done.err
    different, maps = 0, sorted((tmp_path / "graph/infer/label_maps").rglob("*.png"))
    assert maps
    for path in maps:
        other = tmp_path / "host" / path.relative_to(tmp_path / "graph")
        expected, got = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (path, other))
        different += int((expected != got).sum())
    assert different <= 2  # two ways of rounding


def test_what_paddleseg_would_download_is_left_out(
    tiny_cityscapes_shared: Path, tmp_path: Path
) -> None:
    data = [f"{split}_dataset.dataset_root={tiny_cityscapes_shared}" for split in ("train", "val")]
    finished = call(
        "train.py", "--config", PROJECT / "configs/ddrnet/ddrnet23_cityscapes_1024x1024_120k.yml",
        "--device", "cpu", "--iters", 1, "--save_dir", tmp_path,
        "--opts", *data, "model.pretrained=https://example.invalid/ddrnet23.pdparams",
    )  # fmt: skip
    assert finished.status == 2
    assert "download https://example.invalid/ddrnet23.pdparams by hand" in finished.err
    assert "model.pretrained=ddrnet23.pdparams" in finished.err
