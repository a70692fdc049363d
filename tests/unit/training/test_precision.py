"""Mixed precision: which flags mean it, and the calls that are made, recorded by a stand-in."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from tiny_training import tiny_config, train_tiny

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.optimizer import (
    OptimizerOptions,
    build_optimizer,
    optimizer_arrays,
    restore_optimizer,
)
from paddleseg_ext.training.parameter_groups import group_parameters
from paddleseg_ext.training.precision import resolve_precision
from paddleseg_ext.training.state import TrainState


@pytest.mark.parametrize(
    ("precision", "level", "device", "resolved"),
    [
        ("fp32", None, "cpu", "fp32"),
        ("amp_O1", None, "gpu", "amp_O1"),
        ("fp16", None, "gpu", "amp_O1"),
        ("fp16", "O2", "gpu", "amp_O2"),
    ],
)
def test_flags(precision: str, level: str | None, device: str, resolved: str) -> None:
    assert resolve_precision(precision, level, device) == resolved


@pytest.mark.parametrize(
    ("precision", "level", "device", "words"),
    [
        ("amp_O1", None, "cpu", "on a CPU"),
        ("fp16", "O2", "cpu", "on a CPU"),
        ("fp32", "O2", "gpu", "belongs to --precision fp16"),
        ("amp_O1", "O2", "gpu", "belongs to --precision fp16"),
    ],
)
def test_wrong_flags(precision: str, level: str | None, device: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve_precision(precision, level, device)


class RecordedAmp:
    """In place of `paddle.amp`, which does nothing on a CPU: scales truly, and notes every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.norm_at_step = 0.0

    def auto_cast(self, level: str) -> Any:
        self.calls.append(f"auto_cast {level}")
        return contextlib.nullcontext()

    def decorate(self, models: Any, optimizers: Any, level: str, save_dtype: str) -> None:
        self.calls.append(f"decorate {level} {save_dtype}")

    def GradScaler(self, init_loss_scaling: float) -> Any:
        state = {"scale": np.float32([init_loss_scaling]), "incr_count": 0}

        def unscale(optimizer: Any) -> None:
            self.calls.append("unscale")
            for parameter in optimizer._parameter_list[0]["params"]:
                parameter.grad.set_value(parameter.grad / float(state["scale"][0]))

        def step(optimizer: Any) -> None:
            self.calls.append("step")
            optimizer.step()

        def update() -> None:
            self.calls.append("update")
            state["incr_count"] += 1

        return SimpleNamespace(
            scale=lambda loss: loss * float(state["scale"][0]),
            unscale_=unscale,
            step=step,
            update=update,
            state_dict=lambda: dict(state),
            load_state_dict=state.update,
        )


def test_one_iteration_scales_unscales_clips_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = {"type": "sgd", "clip_grad_norm": 0.05, "momentum": 0.0}
    config = tiny_config(tmp_path, iters=2, accumulate=2, optimizer=optimizer)
    train_tiny(config, tmp_path / "fp32")
    amp = RecordedAmp()
    monkeypatch.setattr(paddle, "amp", amp)
    train_tiny(config, tmp_path / "amp", precision="amp_O1", save_interval=1)
    iteration = ["auto_cast O1", "auto_cast O1", "unscale", "step", "update"]
    assert amp.calls == iteration * 2
    # The scale is a power of two and clipping sees true gradients: the very same weights.
    one, other = (tmp_path / run / "iter_2/model.pdparams" for run in ("fp32", "amp"))
    assert one.read_bytes() == other.read_bytes()
    state = TrainState.read(tmp_path / "amp/iter_1")
    assert (state.precision, state.loss_scaling) == ("amp_O1", {"scale": [1024.0], "incr_count": 1})
    longer = tiny_config(tmp_path, iters=3, accumulate=2, optimizer=optimizer)
    train_tiny(longer, tmp_path / "amp", precision="amp_O1", resume_model="auto")
    assert TrainState.read(tmp_path / "amp/iter_3").loss_scaling["incr_count"] == 3
    with pytest.raises(UsageError, match="had precision amp_O1, this one has fp32"):
        train_tiny(longer, tmp_path / "amp", resume_model=str(tmp_path / "amp/iter_2"))


def test_o2_casts_before_the_first_step_and_evaluates_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_training import ScriptedScores

    amp = RecordedAmp()
    monkeypatch.setattr(paddle, "amp", amp)
    config = tiny_config(tmp_path, iters=1)
    train_tiny(config, tmp_path / "run", precision="amp_O2", validate=ScriptedScores(0.5))
    assert amp.calls[:2] == ["decorate O2 float32", "auto_cast O2"]
    assert amp.calls[-1] == "auto_cast O2"


def test_float32_copies_of_float16_weights_are_saved_and_restored() -> None:
    options, models = OptimizerOptions.from_section({"type": "sgd"}), []
    for value in (1.5, 0.0):
        model = nn.Conv2D(1, 1, 1)
        optimizer = build_optimizer(options, group_parameters(options, model), 0.1)
        sum(p.sum() for p in model.parameters()).backward()
        optimizer.step()
        optimizer._master_weights = {
            p.name: paddle.full(p.shape, value) for p in model.parameters()
        }
        models.append((model, optimizer))
    (model, optimizer), (other, restored) = models
    restore_optimizer(restored, other, optimizer_arrays(optimizer, model), "a file")
    assert {k: float(v.flatten()[0]) for k, v in restored._master_weights.items()} == {
        p.name: 1.5 for p in other.parameters()
    }
