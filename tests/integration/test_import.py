"""`paddleseg-ext import` and `doctor`, as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import PROJECT, call

from paddleseg_ext.published.golden_data import make_state_dict, read_case

GOLDEN = PROJECT / "tests" / "golden"
V1 = PROJECT / "configs/bisenetv1/bisenetv1_torchseg_cityscapes_1024x1024_80k.yml"
STDC = PROJECT / "configs/stdcseg/stdc1_seg_cityscapes_1024x512_60k.yml"


@pytest.fixture(scope="module")
def torchseg_state() -> dict[str, np.ndarray]:
    return make_state_dict(read_case(GOLDEN / "torchseg_r18_64x128"))


@pytest.fixture(scope="module")
def torchseg(torchseg_state: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "r18.npz"
    np.savez(path, **torchseg_state)
    return path


def run_import(weights: Path, config: Path, target: Path, *more: object, system: str = "auto"):
    arguments = ["--from", system, "--weights", weights, "--config", config, "--verbose"]
    return call("paddleseg_ext", "import", *arguments, "--save_path", target, *more)


def test_three_flags_are_enough(torchseg: Path, torchseg_state: dict, tmp_path: Path) -> None:
    arguments = ["--weights", torchseg, "--save_path", tmp_path / "r18.pdparams"]
    done = call("paddleseg_ext", "import", *arguments)
    assert done.status == 0, done.err
    assert "as --config bisenetv1_torchseg_cityscapes_1024x1024_80k" in done.out
    lines = done.out.splitlines()
    assert len(lines) < 20
    assert "part          loaded  folded" in lines
    assert "spatial_path      20       0" in lines
    assert any(line.startswith("dropped") and "a counter" in line for line in lines)
    assert f"of {len(torchseg_state)} tensors" in done.out

    done = call("paddleseg_ext", "import", *arguments, "--opts", "model.variant=author")
    expect_refusal(done, "--opts changes keys of a yml: give --config, too")


def test_import_reports_every_tensor_and_verifies(
    torchseg: Path, torchseg_state: dict, tmp_path: Path
) -> None:
    target = tmp_path / "r18.pdparams"
    done = run_import(torchseg, V1, target, "--verify")
    assert done.status == 0, done.err
    assert "torchseg r18: TorchSeg BiSeNet, R18" in done.out
    assert "golden: passed   torchseg_r18_64x128" in done.out
    lines = [x for x in done.out.splitlines() if x.startswith(("loaded  ", "folded", "dropped"))]
    assert len(lines) == len(torchseg_state)
    manifest = json.loads((tmp_path / "r18.pdparams.json").read_text())
    assert manifest["imported_from"]["generation"] == "r18"

    # What was written is a checkpoint like any other.
    shapes = call("paddleseg_ext", "doctor", "--config", V1, "--input_shape", 1, 3, 64, 128)
    assert shapes.status == 0
    assert "parameters      13." in shapes.out


def test_verify_says_where_no_case_exists(torchseg_state: dict, tmp_path: Path) -> None:
    prefix = "context_path."
    resnet = {k.removeprefix(prefix): v for k, v in torchseg_state.items() if k.startswith(prefix)}
    np.savez(tmp_path / "r18.npz", **resnet, **{"fc.weight": np.zeros((1000, 512), np.float32)})
    target = tmp_path / "r18.pdparams"
    done = run_import(tmp_path / "r18.npz", V1, target, "--verify", system="torchvision")
    expect_refusal(done, "no golden case exists for torchvision resnet18", "without --verify")
    assert not target.exists()


def expect_refusal(done, *words: str) -> None:
    assert done.status == 2, (done.status, done.err[-2000:])
    (line,) = done.error_lines
    for word in words:
        assert word in line, line


def test_inplace_abn_is_told_by_its_missing_counters(tmp_path: Path) -> None:
    state = make_state_dict(read_case(GOLDEN / "stdc813_abn_75x109"))
    np.savez(tmp_path / "stdc.npz", **state)
    target = tmp_path / "stdc.pdparams"
    # Plain norms whose counters are gone: the user's word counts.
    done = run_import(tmp_path / "stdc.npz", STDC, target, "--generation", "stdc813_bn")
    assert done.status == 0, done.err
    assert "loaded   ffm.convblk.bn.weight -> ffm.conv.bn.weight" in done.out
    assert "folded" not in done.out.replace("folded 0", "")

    done = run_import(tmp_path / "stdc.npz", STDC, target, system="stdc")
    assert done.status == 0, done.err
    assert "folded   ffm.convblk.bn.weight -> ffm.conv.bn.weight" in done.out
    assert "dropped  cp.backbone.fc.weight (the ImageNet classifier" in done.out
    assert "dropped  conv_out_sp2.conv_out.weight (the network is built without it)" in done.out


def test_wrong_configs_are_refused(torchseg: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.pdparams"
    done = run_import(torchseg, V1, target, "--opts", "model.variant=coincheung")
    expect_refusal(done, "model.variant is coincheung", "--opts model.variant=author")
    done = run_import(torchseg, STDC, target)
    expect_refusal(
        done, "model.type is STDCSeg", "--config bisenetv1_torchseg_cityscapes_1024x1024"
    )
    done = run_import(torchseg, V1, target, "--opts", "model.num_classes=11")
    expect_refusal(done, "it has 11 classes", "with 19 classes: --config bisenetv1_torchseg_city")
    done = run_import(torchseg, V1, target, system="coincheung")
    expect_refusal(done, "not a checkpoint of a known layout of 'coincheung'", "torchseg r18")
    assert not target.exists()


def test_damaged_checkpoints_are_refused(torchseg_state: dict, tmp_path: Path) -> None:
    target = tmp_path / "out.pdparams"

    def refused(change: dict, without: str = "") -> object:
        state = {k: v for k, v in torchseg_state.items() if k != without} | change
        np.savez(tmp_path / "bad.npz", **state)
        return run_import(tmp_path / "bad.npz", V1, target)

    done = refused({}, without="refines.1.bn.bias")
    expect_refusal(done, "missing: context_path.refine16.bn.bias")
    done = refused({"refines.1.bn.bias": np.zeros(3, np.float32)})
    expect_refusal(done, "misshapen: context_path.refine16.bn.bias [3] instead of [128]")
    done = refused({"somebody.elses.weight": np.zeros(3, np.float32)})
    expect_refusal(done, "unknown tensors: somebody.elses.weight")
    assert not target.exists()


def test_a_hostile_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = PROJECT / "tests/unit/published/files"
    done = run_import(files / "hostile.pth", V1, tmp_path / "out.pdparams")
    expect_refusal(done, "refused", "open", "could run code")
    assert not (tmp_path / "this-file-must-not-appear").exists()


def test_imagenet_weights_become_a_backbones(tmp_path: Path) -> None:
    state = make_state_dict(read_case(GOLDEN / "torchseg_r18_64x128"))
    prefix = "context_path."
    resnet = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    resnet |= {"fc.weight": np.zeros((1000, 512), np.float32), "fc.bias": np.zeros(1000)}
    np.savez(tmp_path / "resnet18.npz", **resnet)
    target = tmp_path / "resnet18.pdparams"
    done = run_import(tmp_path / "resnet18.npz", V1, target, system="torchvision")
    assert done.status == 0, done.err
    assert f"--opts model.backbone.pretrained={target}" in done.out
    assert "dropped  fc.weight (the classifier)" in done.out

    from paddleseg_ext.checkpoints.store import read_arrays
    from paddleseg_ext.config import load_config
    from paddleseg_ext.models.build import build_model, load_pretrained

    config = load_config(V1, [f"model.backbone.pretrained={target}"])
    model = build_model(config, 19)
    load_pretrained(config, model)
    np.testing.assert_array_equal(
        model.backbone.conv1.weight.numpy(), read_arrays(target)["conv1.weight"]
    )
