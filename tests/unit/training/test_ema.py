"""The average of weights by hand-computed steps, and its part in a run."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from tiny_training import ScriptedScores, tiny_config, train_tiny

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.checkpoints.store import read_arrays
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.options import from_section
from paddleseg_ext.training.ema import EmaOptions, WeightAverage


def fill(model: nn.Layer, value: float) -> None:
    for tensor in model.state_dict().values():
        tensor.set_value(paddle.full_like(tensor, value))


@pytest.mark.parametrize(
    ("section", "weight", "statistic"),
    [
        ({"decay": 0.75}, 0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 4, 4.0),
        ({"decay": 0.75, "buffers": "average"}, 1.9375, 1.9375),
        # at iterations 1 and 2 the decay is min(.75, 1/2) and min(.75, 2/3)
        ({"decay": 0.75, "warmup": True}, 2 / 3 * 1.5 + 1 / 3 * 4, 4.0),
    ],
)
def test_two_updates_by_hand(section: dict, weight: float, statistic: float) -> None:
    model = nn.BatchNorm2D(2)
    fill(model, 1.0)
    average = WeightAverage(from_section(EmaOptions, section, "ema"), model)
    average.restart()
    for iteration, value in ((1, 2.0), (2, 4.0)):
        fill(model, value)
        average.update(iteration)
    found = average.arrays()
    assert found["weight"] == pytest.approx([weight, weight])
    assert found["_mean"] == pytest.approx([statistic, statistic])
    assert list(found) == list(model.state_dict())


def test_the_network_has_the_average_inside_and_its_own_after() -> None:
    model = nn.Conv2D(1, 1, 1)
    average = WeightAverage(EmaOptions(0.5), model)
    average.restart()
    averaged = average.arrays()["weight"]
    fill(model, 0.1)
    own = model.weight.numpy().copy()
    with pytest.raises(RuntimeError), average.in_place_of_weights():
        np.testing.assert_array_equal(model.weight.numpy(), averaged)
        raise RuntimeError
    np.testing.assert_array_equal(model.weight.numpy(), own)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"decoy": 0.9}, "did you mean 'decay'"),
        ({"decay": 1.0}, "'decay' must be a number above 0 and below 1, got 1.0"),
        ({"decay": "x"}, "'decay' must be"),
        ({"warmup": 3}, "true or false"),
        ({"buffers": "skip"}, "one of copy, average"),
    ],
)
def test_wrong_sections_are_one_clear_line(section: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_section(EmaOptions, section, "ema")


def test_the_average_is_scored_and_saved_and_resumed_to_the_bit(tmp_path: Path) -> None:
    model = {"type": "TinyNet", "dropout": 0.3}
    config = tiny_config(tmp_path, ema={"decay": 0.9}, accumulate=2, iters=6, model=model)
    scores = ScriptedScores(0.1, 0.3, 0.2)
    train_tiny(config, tmp_path / "whole", validate=scores, save_interval=2)
    for iteration, scored in zip((2, 4, 6), scores.weights, strict=True):
        folder = tmp_path / f"whole/iter_{iteration}"
        saved, raw = (read_arrays(folder / f"model{s}.pdparams") for s in ("", "_raw"))
        assert (saved["head.weight"] != raw["head.weight"]).any()
        for name, array in saved.items():
            np.testing.assert_array_equal(array, scored[name])
    best = tmp_path / "whole/best_model/model.pdparams"
    assert best.read_bytes() == (tmp_path / "whole/iter_4/model.pdparams").read_bytes()
    assert read_manifest(best).weights == "averaged"

    other = tmp_path / "parts"
    other.mkdir()
    (tmp_path / "whole/iter_2").rename(other / "iter_2")
    train_tiny(config, other, validate=ScriptedScores(0.3, 0.2), resume_model="auto")
    for name in ("model.pdparams", "model_raw.pdparams", "model.pdopt", "train_state.json"):
        one, two = (tmp_path / run / "iter_6" / name for run in ("whole", "parts"))
        assert one.read_bytes() == two.read_bytes(), name

    with pytest.raises(UsageError, match="had ema True, this one has False"):
        without = tiny_config(tmp_path, accumulate=2, iters=8, model=model)
        train_tiny(without, other, resume_model="auto")


def test_every_iteration_moves_the_average_by_the_rule(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, ema={"decay": 0.9}, iters=3)
    train_tiny(config, tmp_path / "run", save_interval=1)
    raw, saved = (
        [read_arrays(tmp_path / f"run/iter_{i}/model{s}.pdparams") for i in (1, 2, 3)]
        for s in ("_raw", "")
    )
    for step in (1, 2):
        expected = 0.9 * saved[step - 1]["body.weight"] + 0.1 * raw[step]["body.weight"]
        np.testing.assert_allclose(saved[step]["body.weight"], expected, rtol=1e-6, atol=1e-8)
        np.testing.assert_array_equal(saved[step]["norm._mean"], raw[step]["norm._mean"])
