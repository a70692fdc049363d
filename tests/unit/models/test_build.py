"""Networks from `model:`, and what `pretrained:` takes and refuses."""

from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import nn

from paddleseg_ext.checkpoints.store import save_weights
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.models.build import build_model, load_pretrained


def section(pretrained: Any) -> Config:
    return Config(Path("a.yml"), {"model": {"type": "X", "pretrained": pretrained}})


def test_damaged_weights_are_not_trained_on(tmp_path: Path) -> None:
    model, path = nn.Conv2D(3, 4, 3), tmp_path / "start.pdparams"
    save_weights(model, path)
    load_pretrained(section(str(path)), model)
    data = bytearray(path.read_bytes())
    data[data.index(b"weight") + 200] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="sha256"):
        load_pretrained(section(str(path)), model)


@pytest.mark.parametrize("value", [True, 5, ["start.pdparams"]])
def test_what_is_no_file_name_is_one_line(value: Any) -> None:
    with pytest.raises(UsageError, match=r"model\.pretrained: the name of a \.pdparams file"):
        load_pretrained(section(value), nn.Conv2D(3, 4, 3))


def network(**spec: Any) -> Config:
    return Config(Path("a.yml"), {"model": spec})


def test_no_two_networks_of_a_process_share_a_parameters_name() -> None:
    """An optimizer's state would be the other one's: `conv2d_0.w_0_velocity_1`."""
    config = network(type="FastSCNN")
    first, second = ({p.name for p in build_model(config, 3).parameters()} for _ in range(2))
    assert len(first) == len(second) > 10 and not first & second


@pytest.mark.parametrize("name", ["ResNet18_vd", "paddleseg.ResNet18_vd"])
def test_a_network_of_paddleseg_gets_its_backbone(name: str) -> None:
    spec = {"backbone": {"type": name}, "backbone_indices": [0, 1, 2, 3]}
    model = build_model(network(type="SFNet", **spec), 19)
    assert type(model.backbone).__module__.startswith("paddleseg.models.")


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "STDCSeg", "backbone": {"type": "STDC1"}},
        {"type": "BiSeNetV2", "align_corners": True},
        # Its backbone names its parameters, which Paddle takes once per process.
        {"type": "PortraitNet", "backbone": {"type": "MobileNetV2_x1_0"}},
        # Looks for the file of `pretrained` also where none is given.
        {
            "type": "LinearSegmenter",
            "backbone": {"type": "VisionTransformer", "depth": 1, "embed_dim": 8, "num_heads": 2},
        },
    ],
    ids=lambda spec: spec["type"],
)
def test_a_network_that_only_paddleseg_has_in_this_form(spec: dict[str, Any]) -> None:
    for _ in range(2):
        model = build_model(network(**spec), 2)
        assert type(model).__module__.startswith("paddleseg.models.")


def test_a_network_of_ours_gets_our_backbone() -> None:
    model = build_model(network(type="BiSeNetV1", backbone={"type": "ResNet18_vd"}), 19)
    assert type(model.backbone).__module__.startswith("paddleseg_ext.")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"type": "STDCSeg", "backbone": {"type": "STDC1"}, "variant": "x"},
            "Use STDCNet813 .* type: paddleseg.STDCSeg",
        ),
        (
            {"type": "BiSeNetV2", "lambd": 0.2, "variant": "x"},
            "no 'lambd'; .* type: paddleseg.BiSeNetV2",
        ),
        ({"type": "BiSeNetV2", "lamda": 0.2}, "no 'lamda' .known"),
        ({"type": "BiSeNetV1", "backbone": {"type": "STDC1"}}, "Use ResNet18"),
        (
            {"type": "PPLiteSeg", "backbone": {"type": "STDC1", "in_channels": 1}},
            "^model.backbone: in_channels: 3 expected, got 1",
        ),
        ({"type": "UNet", "in_channels": 4}, "^model: in_channels: 3 expected, got 4"),
        ({"type": "DDRNet_23", "in_channels": 1}, "^model: in_channels: 3 expected, got 1"),
        (
            {"type": "UPerNetViTAdapter", "backbone": {"type": "ViTAdapter_Tiny"}},
            "^model.backbone: ViTAdapter_Tiny needs the operator ms_deform_attn",
        ),
        ({"type": "SFNet", "backbone": {"type": "ResNet18"}}, "^model: SFNet"),
    ],
)
def test_networks_that_cannot_be_built_name_the_remedy(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build_model(network(**spec), 19)
    assert "\n" not in str(caught.value)


def test_channels_of_features_are_no_input_channels() -> None:
    with pytest.raises(UsageError, match="MLATransformer: 'int' object is not subscriptable"):
        build_model(network(type="MLATransformer", in_channels=1024, backbone=None), 19)


def test_a_backbone_from_a_whole_networks_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "whole.pdparams"
    spec = {"type": "BiSeNetV1", "backbone": {"type": "ResNet18", "pretrained": str(path)}}
    config = Config(Path("a.yml"), {"model": spec})
    other, model = build_model(config, 5), build_model(config, 3)
    save_weights(other, path)
    load_pretrained(config, model)
    assert (model.backbone.conv1.weight == other.backbone.conv1.weight).all()
    assert not (model.head.conv.conv.weight == other.head.conv.conv.weight).all()
    total, inner = len(other.state_dict()), len(other.backbone.state_dict())
    assert f"of {total} tensors the {inner} backbone.*" in capsys.readouterr().out
    stdc = {"type": "STDCSeg", "backbone": {"type": "STDCNet813"}}
    save_weights(build_model(Config(Path("b.yml"), {"model": stdc}), 3), path)
    with pytest.raises(UsageError, match=r"model.backbone.pretrained: .* does not fit ResNet"):
        load_pretrained(config, model)


def test_a_recipe_fills_its_backbone_from_the_file_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = {
        "model": {"type": "BiSeNetV1", "backbone": {"type": "ResNet18"}},
        "starting_weights": {"file": "start.pdparams", "url": "https://a.b/c.pth"},
    }
    config = Config(Path("a.yml"), raw, starting_weights=raw["starting_weights"])
    other, model = (build_model(config, 3) for _ in range(2))
    load_pretrained(config, model)
    assert "start.pdparams" not in capsys.readouterr().out
    save_weights(other.backbone, tmp_path / "start.pdparams")
    load_pretrained(config, model)
    assert "model.backbone.pretrained: start.pdparams" in capsys.readouterr().out
    assert (model.backbone.conv1.weight == other.backbone.conv1.weight).all()
    assert not (model.head.conv.conv.weight == other.head.conv.conv.weight).all()


def test_position_embeddings_of_another_size_are_resized_as_by_paddleseg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from paddleseg_ext.models.build import _load_fitting, _paddlesegs_building
    from paddleseg_ext.registry import BACKBONES

    sizes = {"patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
    with _paddlesegs_building():
        make = BACKBONES.find("paddleseg.VisionTransformer")
        small, large = (make(img_size=side, **sizes) for side in (32, 64))
    save_weights(small, tmp_path / "small.pdparams")
    _load_fitting(large, str(tmp_path / "small.pdparams"), "model.backbone.pretrained")
    assert "pos_embed: resized from 2x2 to 4x4 patches" in capsys.readouterr().out
    expected = large.resize_pos_embed(small.pos_embed, (2, 2), (4, 4))
    assert large.pos_embed.shape == [1, 17, 16]
    assert (large.pos_embed == expected).all()


def test_a_norm_for_gpus_runs_on_a_cpu() -> None:
    from paddle import nn

    from paddleseg_ext.models.build import replace_gpu_norms

    model = nn.Sequential(nn.Conv2D(3, 4, 1), nn.Sequential(nn.SyncBatchNorm(4, momentum=0.1)))
    names = list(model.state_dict())
    parameters = model.parameters()
    replace_gpu_norms(model)
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    images = paddle.rand([2, 3, 8, 8])
    features = model[0](images)
    assert abs(float(model(images).mean())) < 1e-5
    model.eval()  # after one step the statistics are nine tenths of the batch's
    mean = 0.9 * features.mean([0, 2, 3], keepdim=True)
    spread = 0.1 + 0.9 * features.var([0, 2, 3], unbiased=False, keepdim=True)
    expected = (features - mean) / (spread + 1e-5).sqrt()
    assert paddle.allclose(model(images), expected, atol=1e-5)


def test_a_norm_for_gpus_stays_on_several(monkeypatch: pytest.MonkeyPatch) -> None:
    from paddleseg_ext.models.build import replace_gpu_norms

    monkeypatch.setattr("paddle.get_device", lambda: "gpu:0")
    for processes, kind in ((2, nn.SyncBatchNorm), (1, nn.BatchNorm2D)):
        monkeypatch.setattr("paddle.distributed.get_world_size", lambda n=processes: n)
        model = nn.Sequential(nn.SyncBatchNorm(4))
        replace_gpu_norms(model)
        assert type(model[0]) is kind
