"""Rates and decays by parameter: as PaddleSeg's optimizers step, and what is refused."""

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddleseg.cvlibs import manager

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.optimizer import OptimizerOptions, build_optimizer
from paddleseg_ext.training.parameter_groups import group_parameters

CUSTOM = [
    {"name": "head", "lr_mult": 10.0},
    {"name": "norm", "weight_decay_mult": 0.0},
    {"name": "weight", "lr_mult": 0.5, "weight_decay_mult": 2.0},
]


class Blocks(nn.Layer):
    """A transformer's names: numbered blocks and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.LayerList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.blocks[1](self.blocks[0](self.embed(x)))

    def get_num_layers(self) -> int:
        return len(self.blocks)

    def no_weight_decay(self) -> set[str]:
        return {"embed"}


class Network(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.norm, self.head = Blocks(), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.norm(self.backbone(x)))


def optimizer_of(section: dict[str, Any], model: nn.Layer) -> Any:
    options = OptimizerOptions.from_section(section)
    return build_optimizer(options, group_parameters(options, model), 0.1)


def steps(model: nn.Layer, optimizer: Any) -> None:
    generator = np.random.default_rng(0)
    for _ in range(3):
        images = paddle.to_tensor(generator.normal(size=(3, 4)).astype("float32"))
        (model(images) ** 2).sum().backward()
        optimizer.step()
        optimizer.clear_grad()


@pytest.mark.parametrize(
    "section",
    [
        {"type": "Momentum", "weight_decay": 0.1, "custom_cfg": CUSTOM, "use_nesterov": True},
        {"type": "Momentum", "grad_clip_cfg": {"name": "ClipGradByNorm", "clip_norm": 0.1}},
        {"type": "Momentum", "grad_clip_cfg": {"name": "ClipGradByValue", "max": 0.1}},
        {"type": "Adam", "grad_clip_cfg": {"name": "ClipGradByGlobalNorm", "clip_norm": 0.1}},
        {"type": "AdamW", "weight_decay": 0.1, "custom_cfg": CUSTOM, "epsilon": 1e-3},
        {"type": "AdamWDL_CAE", "weight_decay": 0.5, "layerwise_decay": 0.65},
    ],
)
def test_steps_are_paddlesegs(section: dict[str, Any]) -> None:
    ours, theirs = Network(), Network()
    theirs.set_state_dict(ours.state_dict())
    arguments = {key: value for key, value in section.items() if key != "type"}
    steps(theirs, manager.OPTIMIZERS[section["type"]](**arguments)(theirs, 0.1))
    steps(ours, optimizer_of(section, ours))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"custom_cfg": [{"lr_mult": 1}]}, r"custom_cfg\[0\]' must be a section with 'name'"),
        ({"custom_cfg": [{"name": "a", "lr": 1}]}, r"custom_cfg\[0\].*'lr'"),
        ({"custom_cfg": [{"name": "a", "lr_mult": -1}]}, r"custom_cfg\[0\]\.lr_mult' must be"),
        ({"custom_cfg": [{"name": "a"}], "lr_multipliers": {"b": 1}}, "do the same"),
        ({"grad_clip_cfg": {"name": "ClipGradNorm"}}, "did you mean 'ClipGradByNorm'"),
        ({"grad_clip_cfg": {"name": "ClipGradByNorm"}}, "'clip_norm' is missing"),
        ({"grad_clip_cfg": {"name": "ClipGradByNorm", "max": 1}}, "takes no 'max'"),
        ({"grad_clip_cfg": {"name": "ClipGradByNorm", "clip_norm": 0}}, "for no clipping leave"),
        ({"grad_clip_cfg": {"name": "ClipGradByValue", "max": 0.0}}, "with 'max' 0 every"),
        ({"grad_clip_cfg": {"name": "ClipGradByValue", "max": 1, "min": 1}}, "below 0"),
        ({"nesterov": True, "use_nesterov": True}, "both are given"),
        ({"type": "adam", "lazy_mode": True}, "sparse gradients"),
    ],
)
def test_wrong_sections_are_one_clear_line(section: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"optimizer: .*{words}"):
        OptimizerOptions.from_section(section)


def test_names_that_fit_nothing_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    section = {"custom_cfg": [{"name": "haed", "lr_multi": 10.0}]}
    optimizer_of(section, Network())
    said = capsys.readouterr().out
    assert "no parameter of Network has 'haed' in its name (did you mean 'head'?)" in said
    assert "'lr_multi' of 'haed' is not used" in said


def test_layers_without_numbers() -> None:
    section = {"type": "AdamW", "layerwise_decay": 0.5}
    with pytest.raises(UsageError, match="numbered blocks, such as CAE; Linear has none"):
        optimizer_of(section, nn.Linear(2, 2))
