"""Optimizer groups by hand-computed steps, and the state's way to a file and back."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from paddleseg_ext.checkpoints.store import read_arrays, read_parameter_names
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.optimizer import (
    OptimizerOptions,
    build_optimizer,
    l2_loss,
    optimizer_arrays,
    restore_optimizer,
    under_structured_names,
)
from paddleseg_ext.training.parameter_groups import group_parameters


def make_optimizer(options: OptimizerOptions, model: nn.Layer, rate: float):
    return build_optimizer(options, group_parameters(options, model), rate)


def one_step(model: nn.Layer, optimizer) -> None:
    sum(p.sum() for p in model.parameters()).backward()  # every gradient is 1
    optimizer.step()
    optimizer.clear_grad()


def test_decay_spares_norms_and_biases_and_heads_learn_faster() -> None:
    model = nn.Sequential(("body", nn.Conv2D(1, 1, 1)), ("head", nn.Conv2D(1, 1, 1)))
    for parameter in model.parameters():
        parameter.set_value(paddle.full_like(parameter, 2.0))
    options = OptimizerOptions.from_section(
        {
            "type": "sgd",
            "momentum": 0.0,
            "weight_decay": 0.1,
            "no_decay_on_norm_and_bias": True,
            "lr_multipliers": {"head": 10.0},
        }
    )
    one_step(model, make_optimizer(options, model, 0.01))
    values = {name: float(p.flatten()[0]) for name, p in model.named_parameters()}
    assert values == pytest.approx(
        {
            "body.weight": 2.0 - 0.01 * (1.0 + 0.1 * 2.0),
            "body.bias": 2.0 - 0.01,
            "head.weight": 2.0 - 0.1 * (1.0 + 0.1 * 2.0),
            "head.bias": 2.0 - 0.1,
        }
    )


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_restored_optimizer_goes_on_to_the_bit(kind: str) -> None:
    options = OptimizerOptions.from_section({"type": kind, "weight_decay": 0.01})
    paddle.seed(3)
    straight = nn.Conv2D(2, 3, 3)
    optimizer = make_optimizer(options, straight, 0.1)
    one_step(straight, optimizer)
    arrays = optimizer_arrays(optimizer, straight)
    assert arrays
    resumed = nn.Conv2D(2, 3, 3)
    resumed.set_state_dict({k: v.numpy() for k, v in straight.state_dict().items()})
    other = make_optimizer(options, resumed, 0.1)
    restore_optimizer(other, resumed, arrays, "a file")
    one_step(straight, optimizer)
    one_step(resumed, other)
    for mine, theirs in zip(straight.parameters(), resumed.parameters(), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    foreign = {f"x.{name}": array for name, array in arrays.items()}
    with pytest.raises(UsageError, match=r"'x\.weight' is no parameter"):
        restore_optimizer(other, resumed, foreign, "a file")


@pytest.mark.parametrize(("old", "new"), [("adam", "sgd"), ("sgd", "adam"), (None, "sgd")])
def test_the_state_of_another_optimizer_is_refused(old: str | None, new: str) -> None:
    """Paddle would go on from zeros."""
    model, arrays = nn.Conv2D(2, 3, 3), {}
    if old is not None:
        optimizer = make_optimizer(OptimizerOptions.from_section({"type": old}), model, 0.1)
        one_step(model, optimizer)
        arrays = optimizer_arrays(optimizer, model)
    other = make_optimizer(OptimizerOptions.from_section({"type": new}), model, 0.1)
    with pytest.raises(UsageError, match=r"a file: the state of another optimizer than"):
        restore_optimizer(other, model, arrays, "a file")


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimizer_that_paddleseg_saved_goes_on_to_the_bit(kind: str, tmp_path: Path) -> None:
    """Its file names parameters by a count of layers, of which this process has made others."""
    theirs = nn.Sequential(("stem", nn.Conv2D(2, 3, 3)), ("head", nn.Conv2D(3, 1, 1)))
    rate = paddle.optimizer.lr.PolynomialDecay(0.1, 100, 0.1)
    kinds = {"sgd": paddle.optimizer.Momentum, "adam": paddle.optimizer.Adam}
    optimizer = kinds[kind](rate, parameters=theirs.parameters())
    one_step(theirs, optimizer)
    paddle.save(theirs.state_dict(), str(tmp_path / "model.pdparams"))
    paddle.save(optimizer.state_dict(), str(tmp_path / "model.pdopt"))

    ours = nn.Sequential(("stem", nn.Conv2D(2, 3, 3)), ("head", nn.Conv2D(3, 1, 1)))
    ours.set_state_dict(read_arrays(tmp_path / "model.pdparams"))
    names = read_parameter_names(tmp_path / "model.pdparams")
    arrays = under_structured_names(read_arrays(tmp_path / "model.pdopt"), names)
    other = make_optimizer(OptimizerOptions.from_section({"type": kind}), ours, 0.1)
    restore_optimizer(other, ours, arrays, "a file")
    one_step(theirs, optimizer)
    one_step(ours, other)
    for mine, other_ones in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(mine.numpy(), other_ones.numpy())


def test_copies_of_float16_weights_keep_their_owner() -> None:
    saved = {"conv2d_1.w_0_velocity_0": 1, "master_weights/conv2d_1.w_0": 2, "conv2d_11.w_0_x": 3}
    renamed = under_structured_names(saved, {"conv2d_1.w_0": "stem.weight"})
    assert renamed == {"stem.weight/velocity_0": 1, "stem.weight/master_weights": 2}


def test_whole_numbers_are_numbers() -> None:
    section = {"weight_decay": 0, "momentum": 0, "lr_multipliers": {"weight": 10}}
    model = nn.Conv2D(1, 1, 1)
    before = float(model.weight.flatten()[0])
    one_step(model, make_optimizer(OptimizerOptions.from_section(section), model, 0.01))
    assert float(model.weight.flatten()[0]) == pytest.approx(before - 0.1)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"type": "sgd", "momentun": 0.9}, "unknown key 'momentun' .did you mean 'momentum'"),
        ({"type": "sdg"}, "did you mean 'sgd'"),
        ({"type": "adam", "momentum": 0.9}, "Adam has no 'momentum'"),
        ({"type": "sgd", "weight_decay": "x"}, "'weight_decay' must be a number"),
        ({"type": "sgd", "weight_decay": -1}, "at least 0"),
        ({"lr_multipliers": {"head": "x"}}, "lr_multipliers"),
        ({"lr_multipliers": 10}, "'lr_multipliers' must be a section"),
        ({"momentum": 1.5}, "'momentum' must be a number of at least 0 and below 1"),
        ({"type": "adam", "beta1": 1.0}, "'beta1' must be a number of at least 0 and below 1"),
        ({"nesterov": "false"}, "'nesterov' must be true or false"),
        ({"no_decay_on_norm_and_bias": 1}, "must be true or false"),
    ],
)
def test_wrong_sections_are_one_clear_line(section: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        OptimizerOptions.from_section(section)


def test_a_multiplier_that_fits_nothing_is_an_error() -> None:
    options = OptimizerOptions.from_section({"lr_multipliers": {"haed": 10.0}})
    with pytest.raises(UsageError, match="'haed' in its name"):
        make_optimizer(options, nn.Conv2D(1, 1, 1), 0.1)


def test_the_l2_loss_has_the_weight_decay_as_its_gradient() -> None:
    model = nn.Sequential(("body", nn.Conv2D(2, 3, 3)), ("norm", nn.BatchNorm2D(3)))
    section = {"type": "sgd", "weight_decay": 0.1, "no_decay_on_norm_and_bias": True}
    options = OptimizerOptions.from_section(section)
    groups = group_parameters(options, model)
    before = l2_loss(options, groups)
    weight = model.body.weight
    assert before == pytest.approx(0.05 * float((weight.numpy() ** 2).sum()), rel=1e-6)
    gradient = 0.1 * weight.numpy()
    weight.set_value(weight.numpy() - 1e-3 * gradient)
    expected = before - 1e-3 * float((gradient**2).sum())
    assert l2_loss(options, groups) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("section", [{"type": "sgd"}, {"type": "adamw", "weight_decay": 0.1}])
def test_without_such_a_term_there_is_no_l2_loss(section: dict) -> None:
    options = OptimizerOptions.from_section(section)
    assert l2_loss(options, group_parameters(options, nn.Conv2D(1, 1, 1))) is None


def test_a_star_in_a_multiplier_stands_for_any_letters() -> None:
    model = nn.Sequential(
        ("body", nn.Sequential(("conv", nn.Conv2D(1, 1, 1)), ("norm", nn.BatchNorm2D(1)))),
        ("head", nn.Sequential(("norm", nn.BatchNorm2D(1)))),
    )
    before = {name: float(p.flatten()[0]) for name, p in model.named_parameters()}
    options = OptimizerOptions.from_section({"lr_multipliers": {"body*norm": 0}})
    one_step(model, make_optimizer(options, model, 0.01))
    moved = {n for n, p in model.named_parameters() if float(p.flatten()[0]) != before[n]}
    assert moved == {"body.conv.weight", "body.conv.bias", "head.norm.weight", "head.norm.bias"}
