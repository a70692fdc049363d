"""Weights that a network starts from: each ImageNet layout fills its backbone completely."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.models.backbones.efficientnet import EfficientNetB1
from paddleseg_ext.models.backbones.resnet import ResNet18, ResNet50, ResNet101, ResNet101_v1c
from paddleseg_ext.models.backbones.resnet_v1c import ResNet18_v1c
from paddleseg_ext.published.generation import Generation
from paddleseg_ext.published.importer import load_published
from paddleseg_ext.published.systems import GENERATIONS, recognise

State = dict[str, np.ndarray]
TORCH_LEAVES = {"_mean": "running_mean", "_variance": "running_var"}


def torch_names(network: nn.Layer) -> State:
    """The state of a network that keeps the original's layer names, named as PyTorch does."""
    state = {}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        state[f"{module}.{TORCH_LEAVES.get(leaf, leaf)}"] = tensor.numpy()
    return state


def torchvision(network: nn.Layer, channels: int) -> State:
    return torch_names(network) | {"fc.weight": np.zeros((1000, channels)), "fc.bias": np.zeros(1)}


def timm() -> State:
    return torch_names(EfficientNetB1()) | {
        "conv_head.weight": np.zeros((1280, 320, 1, 1)),
        "bn2.weight": np.zeros(1280),
        "bn2.running_mean": np.zeros(1280),
        "classifier.weight": np.zeros((1000, 1280)),
    }


def paddle_resnet18_vd() -> State:
    from paddleseg.models.backbones import ResNet18_vd

    state = {name: tensor.numpy() for name, tensor in ResNet18_vd().state_dict().items()}
    return state | {"fc.weight": np.zeros((512, 1000)), "fc.bias": np.zeros(1000)}


def mmseg_resnet18_v1c() -> State:
    """open-mmlab's names: `stem.0` to `stem.7`, `layer1` to `layer4`."""
    stem = {"0.conv": "0", "0.bn": "1", "1.conv": "3", "1.bn": "4", "2.conv": "6", "2.bn": "7"}
    state = {}
    for name, tensor in torch_names(ResNet18_v1c()).items():
        part, rest = name.split(".", 1)
        if part == "convs":
            module, _, leaf = rest.rpartition(".")
            state[f"stem.{stem[module]}.{leaf}"] = tensor
        else:
            number, rest = rest.split(".", 1)
            state[f"layer{int(number) + 1}.{rest}"] = tensor
    return state | {"fc.weight": np.zeros((1000, 512)), "fc.bias": np.zeros(1000)}


def paddlesegs_stdc(name: str) -> State:
    from paddleseg.models import backbones

    return {key: tensor.numpy() for key, tensor in getattr(backbones, name)().state_dict().items()}


STATES: dict[str, Callable[[], State]] = {
    "resnet18": lambda: torchvision(ResNet18(), 512),
    "resnet50": lambda: torchvision(ResNet50(), 2048),
    "resnet101": lambda: torchvision(ResNet101(), 2048),
    "resnet101_v1c": lambda: torchvision(ResNet101_v1c(), 2048),
    "resnet18_v1c": mmseg_resnet18_v1c,
    "efficientnet_b1": timm,
    "resnet18_vd": paddle_resnet18_vd,
    "stdc813_backbone": lambda: paddlesegs_stdc("STDC1"),
    "stdc1446_backbone": lambda: paddlesegs_stdc("STDC2"),
}
MODELS = {
    "ResNet18_v1c": "DABNet",
    "EfficientNetB1": "DABNet",
    "STDCNet813": "STDCSeg",
    "STDCNet1446": "STDCSeg",
}


def config_for(generation: Generation) -> Config:
    backbone = dict(generation.model["backbone"])
    model = {"type": MODELS.get(backbone["type"], "BiSeNetV1"), "backbone": backbone}
    return Config(Path("x.yml"), {"model": model | {"num_classes": 19}})


@pytest.mark.parametrize("name", STATES)
def test_a_backbone_is_filled(name: str) -> None:
    state = STATES[name]()
    generation = recognise(state, "auto", None, "x.pth")
    assert generation.name == name
    backbone, imported = load_published(config_for(generation), generation, state, "x.pth")
    assert set(imported.arrays) == set(backbone.state_dict())
    assert all("classifier" in why for _, why in imported.dropped)


@pytest.mark.parametrize("name", ["stdc813", "stdc1446"])
def test_stdc_classifiers_fill_their_backbones(name: str, shared_dir: Path) -> None:
    from paddleseg_ext.published.golden_data import make_state_dict, read_case

    state = make_state_dict(read_case(shared_dir / "golden" / f"{name}_cls_64x96"))
    generation = recognise(state, "stdc", None, "x.pth.tar")
    assert generation.name == f"{name}_imagenet"
    spec = {"type": "STDCSeg", "backbone": dict(generation.model["backbone"]), "num_classes": 19}
    config = Config(Path("x.yml"), {"model": spec})
    backbone, imported = load_published(config, generation, state, "x.pth.tar")
    assert set(imported.arrays) == set(backbone.state_dict())
    assert len(imported.arrays) + len(imported.dropped) == len(state)


@pytest.mark.parametrize(("name", "network"), [("resnet18", ResNet18), ("resnet50", ResNet50)])
def test_a_stem_of_resnet_c_is_left_out_where_the_network_has_another(
    name: str, network: Callable[[], nn.Layer]
) -> None:
    layers = {k: v for k, v in torch_names(network()).items() if k.startswith("layer")}
    stem = {k: v for k, v in mmseg_resnet18_v1c().items() if k.startswith("stem")}
    channels = 512 if name == "resnet18" else 2048
    state = layers | stem | {"fc.weight": np.zeros((1000, channels)), "fc.bias": np.zeros(1000)}
    generation = recognise(state, "mmseg", f"{name}_v1c_layers", "x.pth")
    backbone, imported = load_published(config_for(generation), generation, state, "x.pth")
    assert set(backbone.state_dict()) - set(imported.arrays) == {
        name for name in backbone.state_dict() if name.startswith(("conv1.", "bn1."))
    }
    assert {name for name, _ in imported.dropped} == {*stem, "fc.weight", "fc.bias"}
    if name == "resnet18":  # without a name it is the file that DABNet starts from
        assert recognise(state, "mmseg", None, "x.pth").name == "resnet18_v1c"


def test_every_backbone_layout_is_tested() -> None:
    layouts = {g.name for g in GENERATIONS if g.part == "backbone"}
    without_stem = {f"resnet{depth}_v1c_layers" for depth in (18, 50, 101)}
    assert layouts == {*STATES, "stdc813_imagenet", "stdc1446_imagenet", *without_stem}


def test_bisenetv2_without_its_heads(shared_dir: Path) -> None:
    from paddleseg_ext.published.golden_data import make_state_dict, read_case

    state = make_state_dict(read_case(shared_dir / "golden" / "cc_v2_head_64x128"))
    body = {k: v for k, v in state.items() if k.startswith(("detail", "segment", "bga"))}
    generation = recognise(body, "coincheung", None, "backbone_v2.pth")
    assert generation.name == "v2_backbone"
    config = Config(Path("x.yml"), {"model": {"type": "BiSeNetV2", "num_classes": 19}})
    model, imported = load_published(config, generation, body, "backbone_v2.pth")
    heads = {n for n in model.state_dict() if n.startswith(("head.", "aux_heads."))}
    assert set(imported.arrays) == set(model.state_dict()) - heads
    del body["bga.conv.0.weight"]
    with pytest.raises(UsageError, match=r"missing: bga\.conv"):
        load_published(config, generation, body, "backbone_v2.pth")
