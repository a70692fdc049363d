"""The features of the loop, on a network that trains in milliseconds."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest
from tiny_training import NUM_CLASSES, ScriptedScores, TinyNet, TinySamples, tiny_config, train_tiny

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.checkpoints.store import read_arrays, save_weights
from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError
from paddleseg_ext.training.state import TrainState

PLAIN = {"type": "TinyNet", "norm": False}


def weights(run: Path, iteration: int) -> dict[str, np.ndarray]:
    return read_arrays(run / f"iter_{iteration}/model.pdparams")


def assert_same_bits(one: Path, other: Path) -> None:
    for name in ("model.pdparams", "model.pdopt"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_batches_are_one_big_batch(tmp_path: Path, clip: float | None) -> None:
    optimizer = {"type": "sgd", "clip_grad_norm": clip} if clip else {"type": "sgd"}
    changes = {"model": PLAIN, "optimizer": optimizer, "iters": 5}
    train_tiny(tiny_config(tmp_path, batch_size=6, **changes), tmp_path / "big")
    train_tiny(tiny_config(tmp_path, batch_size=2, accumulate=3, **changes), tmp_path / "small")
    big, small = weights(tmp_path / "big", 5), weights(tmp_path / "small", 5)
    for name, array in big.items():
        np.testing.assert_allclose(small[name], array, atol=1e-6, err_msg=name)
    losses = [
        [e["loss"] for e in json.loads((tmp_path / run / "history.json").read_text())["train"]]
        for run in ("big", "small")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_clipping_bounds_the_step_of_the_sum(tmp_path: Path) -> None:
    optimizer = {"type": "sgd", "clip_grad_norm": 0.05, "momentum": 0.0}
    config = tiny_config(tmp_path, accumulate=3, iters=2, optimizer=optimizer)
    train_tiny(config, tmp_path / "run", save_interval=1)
    before, after = weights(tmp_path / "run", 1), weights(tmp_path / "run", 2)
    trained = [name for name in before if "_mean" not in name and "_variance" not in name]
    moved = np.sqrt(sum(((after[n] - before[n]) ** 2).sum() for n in trained))
    rate = json.loads((tmp_path / "run/history.json").read_text())["train"][1]["lr"]
    assert moved == pytest.approx(0.05 * rate, rel=1e-4)


def test_the_term_of_weight_decay_is_in_the_history(tmp_path: Path) -> None:
    train_tiny(tiny_config(tmp_path, iters=4), tmp_path / "run", log_iters=2)
    entries = json.loads((tmp_path / "run/history.json").read_text())["train"]
    weights = read_arrays(tmp_path / "run/iter_4/model.pdparams")
    decayed = [w for name, w in weights.items() if not name.endswith(("_mean", "_variance"))]
    expected = 0.5 * 1e-4 * sum(float((w**2).sum()) for w in decayed)
    assert [entry["iter"] for entry in entries] == [2, 4]
    assert entries[-1]["l2_loss"] == pytest.approx(expected, rel=1e-5)


def test_processes_that_read_change_nothing(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, model={"type": "TinyNet", "dropout": 0.3}, accumulate=2)
    for workers in (0, 2):
        train_tiny(config, tmp_path / str(workers), num_workers=workers)
    assert_same_bits(tmp_path / "0/iter_4", tmp_path / "2/iter_4")


class UnreadableSample(TinySamples):
    """One sample of it raises."""

    def __init__(self, error: Exception):
        super().__init__()
        self._error = error

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index == 7:
            raise self._error
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_ends_the_run(tmp_path: Path, workers: int) -> None:
    """In Paddle's reading thread an exception would leave the run waiting for ever."""
    config = tiny_config(tmp_path, iters=6)
    how = {"num_workers": workers}
    with pytest.raises(UsageError) as failure:
        train_tiny(config, tmp_path / "run", UnreadableSample(DataError("7.png: cut short")), **how)
    assert str(failure.value) == "7.png: cut short"
    with pytest.raises(RuntimeError, match=r"(?s)reading a batch.*ZeroDivisionError: of ours"):
        train_tiny(config, tmp_path / "run", UnreadableSample(ZeroDivisionError("of ours")), **how)


class TwoSizes(TinySamples):
    """Half of its samples are wider."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        sample = super().__getitem__(index)
        return {k: np.repeat(v, 1 + index % 2, axis=-1) for k, v in sample.items()}


def test_samples_of_different_sizes_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^train_dataset: samples of one batch differ"):
        train_tiny(tiny_config(tmp_path), tmp_path / "run", TwoSizes())


def test_every_batch_draws_from_a_seed_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    seed_all = paddle.seed
    monkeypatch.setattr(paddle, "seed", lambda seed: (seeds.append(seed), seed_all(seed))[1])
    config = tiny_config(tmp_path, accumulate=3)
    train_tiny(config, tmp_path / "run", seed=1)
    whole = seeds[1:]  # the first one is for the initial weights
    assert len(set(whole)) == len(whole) == 12
    seeds.clear()
    train_tiny(config, tmp_path / "run", seed=1, resume_model=str(tmp_path / "run/iter_2"))
    assert seeds[1:] == whole[6:]


def test_frozen_statistics_are_used_and_kept(tmp_path: Path) -> None:
    start = TinyNet(NUM_CLASSES)
    start.norm._mean.set_value(paddle.full([6], 2.0))
    save_weights(start, tmp_path / "start.pdparams")
    frozen = tiny_config(tmp_path, freeze_bn=True, iters=1)
    finetune = {"finetune": str(tmp_path / "start.pdparams")}
    train_tiny(frozen, tmp_path / "frozen", **finetune)
    train_tiny(tiny_config(tmp_path, iters=1), tmp_path / "free", **finetune)
    kept, free = weights(tmp_path / "frozen", 1), weights(tmp_path / "free", 1)
    first = read_arrays(tmp_path / "start.pdparams")
    for name in ("norm._mean", "norm._variance"):
        np.testing.assert_array_equal(kept[name], first[name])
        assert (free[name] != first[name]).any()
    for name in ("norm.weight", "norm.bias"):
        assert (kept[name] != first[name]).any()
    losses = [
        json.loads((tmp_path / run / "history.json").read_text())["train"][0]["loss"]
        for run in ("frozen", "free")
    ]
    assert losses[0] != losses[1]


def test_early_stop_is_noted_and_can_be_gone_beyond(tmp_path: Path, capsys) -> None:
    run, config = tmp_path / "run", tiny_config(tmp_path, iters=9)
    every = {"save_interval": 1, "early_stop": 2}
    state = train_tiny(config, run, validate=ScriptedScores(0.3, 0.2, 0.5, 0.5, 0.4), **every)
    assert (state.iteration, state.best_iteration, state.stale_evaluations) == (5, 3, 2)
    assert "stopped early at iter 5: 2 evaluations without" in capsys.readouterr().out
    history = json.loads((run / "history.json").read_text())
    assert history["early_stop"] == [{"iter": 5, "evaluations": 2, "best_iter": 3}]
    with pytest.raises(UsageError, match="raise --early_stop above 2"):
        train_tiny(config, run, validate=ScriptedScores(), resume_model="auto", **every)

    # Interrupted before the decision, the count goes on.
    last = {**every, "resume_model": str(run / "iter_4")}
    assert train_tiny(config, run, validate=ScriptedScores(0.4), **last).iteration == 5
    further = {**every, "early_stop": 4, "resume_model": "auto"}
    state = train_tiny(config, run, validate=ScriptedScores(0.6, 0.1, 0.1, 0.7), **further)
    assert (state.iteration, state.best_iteration) == (9, 9)
    assert "early_stop" not in json.loads((run / "history.json").read_text())


def test_going_on_from_an_earlier_checkpoint_loses_neither_run(tmp_path: Path) -> None:
    run, every = tmp_path / "run", {"save_interval": 1, "keep_checkpoint_max": 3}
    config = tiny_config(tmp_path, iters=5)
    train_tiny(config, run, validate=ScriptedScores(0.1, 0.2, 0.3, 0.4, 0.9), **every)
    final = (run / "iter_5/model.pdparams").read_bytes()
    again = {**every, "resume_model": str(run / "iter_3")}

    slower = tiny_config(tmp_path, iters=4, lr_scheduler={"learning_rate": 0.01})
    train_tiny(slower, run, validate=ScriptedScores(0.4), **again)
    assert sorted(p.name for p in run.glob("iter_*")) == ["iter_3", "iter_4"]  # what auto looks at
    assert read_manifest(run / "best_model/model.pdparams").scores == {"scores": {"mean_iou": 0.4}}
    left = run / "previous_runs/1"
    assert sorted(p.name for p in left.iterdir()) == ["best_model", "iter_4", "iter_5"]
    assert (left / "iter_5/model.pdparams").read_bytes() == final
    assert read_manifest(left / "best_model/model.pdparams").scores == {"scores": {"mean_iou": 0.9}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 13}, "12 samples, fewer than one batch of 13"),
        ({"loss": {"types": [{"type": "CrossEntropyLos"}], "coef": [1]}}, "CrossEntropyLoss"),
    ],
)
def test_a_run_that_is_refused_moves_no_earlier_one(
    tmp_path: Path, change: dict, words: str
) -> None:
    run = tmp_path / "run"
    train_tiny(tiny_config(tmp_path), run)
    with pytest.raises(UsageError, match=words):
        train_tiny(tiny_config(tmp_path, **change), run)
    assert (run / "iter_4").is_dir() and not (run / "previous_runs").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"train": [{}]}'])
def test_a_damaged_history_is_one_line(tmp_path: Path, content: str) -> None:
    run, config = tmp_path / "run", tiny_config(tmp_path)
    train_tiny(config, run)
    (run / "history.json").write_text(content)
    with pytest.raises(UsageError, match=r"history\.json: a history\.json of .*; delete it"):
        train_tiny(config, run, resume_model=str(run / "iter_2"))


def test_going_on_in_the_folder_of_another_run_mixes_nothing(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, iters=4)
    train_tiny(config, tmp_path / "one")
    train_tiny(config, tmp_path / "other", save_interval=1)
    resume = {"resume_model": str(tmp_path / "one/iter_2"), "keep_checkpoint_max": 1}
    train_tiny(config, tmp_path / "other", **resume)
    assert sorted(p.name for p in tmp_path.glob("other/iter_*")) == ["iter_4"]
    history = json.loads((tmp_path / "other/history.json").read_text())
    assert [e["iter"] for e in history["train"]] == [3, 4]
    assert len(list((tmp_path / "other/previous_runs/1").glob("iter_*"))) == 4


class FailsOnce:
    """Scores by script; its call number `call` ends in an error instead, once."""

    def __init__(self, call: int, *scores: float):
        self._call, self._scores = call, ScriptedScores(*scores)

    def __call__(self, *arguments: Any) -> Any:
        self._call -= 1
        if self._call == 0:
            raise MemoryError("no room for a full-size image")
        return self._scores(*arguments)


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("ema", [None, {"decay": 0.5}])
def test_an_evaluation_that_fails_costs_no_iteration(tmp_path: Path, call: int, ema) -> None:
    """The first, one in the middle, or the last: it is done when the run goes on."""
    config = tiny_config(tmp_path, iters=6, **({"ema": ema} if ema else {}))
    scores = (0.1, 0.3, 0.2)
    train_tiny(config, tmp_path / "whole", validate=ScriptedScores(*scores))

    run = tmp_path / "run"
    broken = FailsOnce(call, *scores)
    with pytest.raises(MemoryError):
        train_tiny(config, run, validate=broken)
    last = 2 * call
    assert sorted(p.name for p in run.glob("iter_*")) == [
        f"iter_{i}" for i in range(2, last + 1, 2)
    ]
    assert read_manifest(run / f"iter_{last}/model.pdparams").scores is None

    train_tiny(config, run, validate=broken, resume_model="auto")
    whole = tmp_path / "whole"
    for name in ["iter_2", "iter_4", "iter_6"]:
        assert_same_bits(whole / name, run / name)
        assert TrainState.read(run / name) == TrainState.read(whole / name)
    best = [read_manifest(folder / "best_model/model.pdparams") for folder in (whole, run)]
    assert best[0] == best[1]
    histories = [json.loads((folder / "history.json").read_text()) for folder in (whole, run)]
    assert histories[0] == histories[1]
    assert not (run / "previous_runs").exists()
    with pytest.raises(UsageError, match="has done 6 iterations of 6"):
        train_tiny(config, run, validate=broken, resume_model="auto")


def test_killed_after_the_scores_were_noted_once_is_noted_once(tmp_path: Path) -> None:
    """Between `history.json` and the checkpoint's state: the evaluation is repeated."""
    config, run = tiny_config(tmp_path, iters=4), tmp_path / "run"
    train_tiny(config, run, validate=ScriptedScores(0.1, 0.3))
    state = run / "iter_4/train_state.json"
    after, files = json.loads(state.read_text()), TrainState.read(run / "iter_4").files
    pending = replace(TrainState.read(run / "iter_2"), iteration=4, evaluated=False, files=files)
    pending.write(run / "iter_4")
    train_tiny(config, run, validate=ScriptedScores(0.3), resume_model="auto")
    assert [e["iter"] for e in json.loads((run / "history.json").read_text())["eval"]] == [2, 4]
    assert json.loads(state.read_text()) == after


def test_a_repeated_evaluation_can_end_the_run_early(tmp_path: Path) -> None:
    config, run = tiny_config(tmp_path, iters=6), tmp_path / "run"
    broken = FailsOnce(2, 0.5, 0.4)
    with pytest.raises(MemoryError):
        train_tiny(config, run, validate=broken, early_stop=1)
    assert (
        train_tiny(config, run, validate=broken, early_stop=1, resume_model="auto").iteration == 4
    )


def test_each_protocol_keeps_its_best(tmp_path: Path) -> None:
    names = ["scale_0.5", "scale_0.75"]
    config = tiny_config(tmp_path, iters=3, keep_best=names)
    scores = ScriptedScores(**{names[0]: [0.1, 0.3, 0.2], names[1]: [0.4, 0.2, 0.5]})
    run = tmp_path / "run"
    train_tiny(config, run, validate=scores, save_interval=1)
    kept = {
        folder.name: read_manifest(folder / "model.pdparams")
        for folder in sorted(run.glob("best_model*"))
    }
    assert {name: entry.iteration for name, entry in kept.items()} == {
        "best_model": 2,
        "best_model_scale_0.5": 2,
        "best_model_scale_0.75": 3,
    }
    assert kept["best_model_scale_0.75"].scores == {"scores": {"mean_iou": 0.5}}
    history = json.loads((run / "history.json").read_text())
    assert [e["mean_iou"] for e in history["eval"]] == [0.1, 0.3, 0.2]
    assert [e["mean_iou"] for e in history["eval_scale_0.75"]] == [0.4, 0.2, 0.5]
    assert TrainState.read(run / "iter_3").best_by_protocol == {"scale_0.5": 0.3, "scale_0.75": 0.5}

    train_tiny(tiny_config(tmp_path, iters=1), run)  # another run in the same folder
    assert sorted(p.name for p in run.glob("best_model*")) == []
    assert (run / "previous_runs/1/best_model_scale_0.5").is_dir()


def test_finetuning_takes_all_but_the_classes(tmp_path: Path, capsys) -> None:
    train_tiny(tiny_config(tmp_path, iters=1), tmp_path / "old")
    old = tmp_path / "old/iter_1/model.pdparams"
    frozen = {"type": "sgd", "lr_multipliers": {"body": 0, "norm": 0}, "weight_decay": 0}
    config = tiny_config(tmp_path, iters=1, optimizer=frozen)
    five = TinySamples(num_classes=5)
    train_tiny(config, tmp_path / "new", five, finetune=str(old))
    out = capsys.readouterr().out
    assert "6 of 10 tensors were taken" in out
    assert "left fresh: aux.bias, aux.weight, head.bias, head.weight" in out
    new = weights(tmp_path / "new", 1)
    np.testing.assert_array_equal(new["body.weight"], read_arrays(old)["body.weight"])
    assert new["head.weight"].shape[0] == 5

    capsys.readouterr()
    train_tiny(config, tmp_path / "same", finetune=str(old))  # the same classes: all of it
    out = capsys.readouterr().out
    assert "10 of 10 tensors were taken" in out
    assert "left fresh" not in out


def test_finetuning_from_another_network_is_refused(tmp_path: Path) -> None:
    train_tiny(tiny_config(tmp_path, iters=1), tmp_path / "old")
    old = str(tmp_path / "old/iter_1/model.pdparams")
    with pytest.raises(UsageError, match=r"unexpected: norm\.weight.*--opts pretrained=FILE"):
        train_tiny(tiny_config(tmp_path, model=PLAIN), tmp_path / "new", finetune=old)
    train_tiny(tiny_config(tmp_path, iters=1, model=PLAIN), tmp_path / "plain")
    plain = str(tmp_path / "plain/iter_1/model.pdparams")
    with pytest.raises(UsageError, match=r"missing: norm\.weight"):
        train_tiny(tiny_config(tmp_path), tmp_path / "new", finetune=plain)
    assert not list((tmp_path / "new").glob("iter_*"))


def test_a_bad_image_is_named_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    config, run = tiny_config(tmp_path, model=PLAIN, accumulate=2, iters=3), tmp_path / "run"
    with pytest.raises(CheckFailed) as failure:
        train_tiny(config, run, TinySamples(12, bad={7: 3e38}), save_interval=1)
    words = str(failure.value)
    assert "from head 0 and head 1" in words
    assert "on the images " in words
    named = words.partition("on the images ")[2].partition(";")[0].split(", ")
    assert "image_7" in named
    assert len(named) == 2  # of its batch, not of the iteration
    done = sorted(run.glob("iter_*"))
    assert f"iteration {len(done) + 1}: the loss is nan" in words
    for folder in done:
        assert np.isfinite(weights(run, int(folder.name[5:]))["body.weight"]).all()
        assert read_manifest(folder / "model.pdparams").sha256


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite_never_reaches_the_weights(tmp_path: Path, value) -> None:
    """On a CPU, ReLU makes 0 of NaN, and the loss would stay finite."""
    config, run = tiny_config(tmp_path, iters=6), tmp_path / "run"
    with pytest.raises(CheckFailed, match="the image image_7 has values that are not finite"):
        train_tiny(config, run, TinySamples(12, bad={7: value}), save_interval=1)


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finite = TinyNet.__init__

    def hidden(self: TinyNet, *arguments: Any, **named: Any) -> None:
        finite(self, *arguments, **named)
        self.norm._mean[0] = np.nan  # ReLU hides it from the loss

    monkeypatch.setattr(TinyNet, "__init__", hidden)
    config, run = tiny_config(tmp_path, iters=2), tmp_path / "run"
    with pytest.raises(CheckFailed, match=r"iteration 2: 'norm\._mean' is no longer finite"):
        train_tiny(config, run)
    assert not list(run.glob("iter_*"))


def test_a_profile_tells_stages_and_operators_and_changes_nothing(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(tmp_path, iters=6)
    train_tiny(config, tmp_path / "plain")
    capsys.readouterr()
    train_tiny(config, tmp_path / "run", profile=3)
    out = capsys.readouterr().out
    assert_same_bits(tmp_path / "plain/iter_6", tmp_path / "run/iter_6")
    profile = json.loads((tmp_path / "run/profile.json").read_text())
    assert profile["iterations"] == [3, 5]
    assert [s["name"] for s in profile["stages"]] == [
        "reader",
        "forward",
        "loss",
        "backward",
        "step",
    ]
    assert all(s["ms"] > 0 for s in profile["stages"])
    assert sum(s["share"] for s in profile["stages"]) == pytest.approx(1.0)
    calls = {o["name"]: o["calls"] for o in profile["operators"]}
    assert calls["conv2d"] == 3  # body and two heads, an iteration
    gradients = {name: count for name, count in calls.items() if "Conv2dGradNode" in name}
    assert list(gradients.values()) == [3]
    assert "profile of iterations 3 to 5" in out
    assert "conv2d" in out
    trace = json.loads((tmp_path / "run/profile_trace.json").read_text())
    assert trace["traceEvents"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain", "run", "tiny.yml"]


def test_a_disk_without_room_is_refused_before_the_first_step(tmp_path: Path, monkeypatch) -> None:
    config = tiny_config(tmp_path)
    train_tiny(config, tmp_path / "run")
    kept = (tmp_path / "run/iter_4/model.pdparams").read_bytes()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(UsageError, match="0 MB free, and its checkpoints take up to"):
        train_tiny(config, tmp_path / "run")
    assert (tmp_path / "run/iter_4/model.pdparams").read_bytes() == kept


def test_losses_are_tried_before_an_earlier_run_is_moved(tmp_path: Path) -> None:
    train_tiny(tiny_config(tmp_path), tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    one_edge = {"type": "BCELoss", "edge_label": True}
    for loss, message in (
        ({"types": [{"type": "CrossEntropyLoss"}], "coef": [1, 1, 1]}, "has 2 heads"),
        ({"types": [one_edge], "coef": [1, 1]}, "'edge_label' needs"),
        ({"types": [{"type": "EdgeAttentionLoss"}], "coef": [1, 1]}, "the first step of TinyNet"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            train_tiny(tiny_config(tmp_path, loss=loss), tmp_path / "run")
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


class EdgedSamples(TinySamples):
    """Samples with a map of the labels' edges."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        item = super().__getitem__(index)
        return item | {"edge": (item["label"] == 1).astype("float32")}


def test_edge_maps_reach_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def forward(self: Any, heads: Any, labels: Any, edges: Any = None) -> Any:
        seen.append((labels.numpy(), edges.numpy()))
        return heads[0].mean(), [heads[0].mean()]

    monkeypatch.setattr("paddleseg_ext.losses.multi_head.MultiHeadLoss.forward", forward)
    train_tiny(tiny_config(tmp_path, iters=2), tmp_path / "run", EdgedSamples())
    for labels, edges in seen[1:]:  # the first is the rehearsal
        assert edges.shape == (2, 1, 8, 8) and edges.dtype == np.int64
        np.testing.assert_array_equal(edges[:, 0], labels == 1)
    assert len(seen) == 3


def test_the_rehearsal_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, model={"type": "TinyNet", "dropout": 0.3})
    train_tiny(config, tmp_path / "with", save_interval=2)
    monkeypatch.setattr("paddleseg_ext.training.trainer.rehearse_step", lambda *_: None)
    train_tiny(config, tmp_path / "without", save_interval=2)
    assert_same_bits(tmp_path / "with/iter_4", tmp_path / "without/iter_4")


def test_a_run_too_short_for_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rising = {"learning_rate": 0.1, "warmup_iters": 1000, "warmup_start_lr": 0.001}
    config = tiny_config(tmp_path, lr_scheduler=rising, ema={"decay": 0.9995})
    train_tiny(config, tmp_path / "short")
    printed = capsys.readouterr().out
    assert "the warm-up of 1000 iterations is not over when the run of 4 ends" in printed
    assert "ema: after 4 iterations the averaged weights" in printed and "are 100% those" in printed
    rising["warmup_iters"] = 3
    train_tiny(tiny_config(tmp_path, lr_scheduler=rising, ema={"warmup": True}), tmp_path / "long")
    assert "WARNING" not in capsys.readouterr().out
