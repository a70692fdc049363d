"""Seeds and sweeps: sub-folders, going on after a kill, refusals before anything is trained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_training import tiny_config, tiny_data

from paddleseg_ext.checkpoints.store import read_arrays
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.config import Config, apply_opts, check_config
from paddleseg_ext.studies import several as module
from paddleseg_ext.studies.several import SeveralOptions, plan_members, split_values, train_members
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.train import train

DECAY = "optimizer.weight_decay"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny_config(tmp_path, iters=4, **tiny_data(tmp_path / "data"))


def loader(config: Config):
    """As the command line's: the yml with further `--opts`."""

    def load(opts: Sequence[str]) -> Config:
        raw = config.with_defaults()
        apply_opts(raw, opts)
        return check_config(raw, config.path)

    return load


def options(folder: Path, **given: object) -> TrainOptions:
    settings = {"save_interval": 2, "log_iters": 1, "device": "cpu", "do_eval": True}
    return TrainOptions(save_dir=folder, **(settings | given))


def run(config: Config, folder: Path, several: SeveralOptions, **given: object) -> None:
    train_members(plan_members(loader(config), options(folder, **given), several), folder)


def weights(folder: Path) -> dict[str, bytes]:
    arrays = read_arrays(folder / "iter_4" / "model.pdparams")
    return {name: array.tobytes() for name, array in arrays.items()}


def test_each_seed_ends_in_the_weights_of_a_run_of_its_own(config: Config, tmp_path: Path) -> None:
    run(config, tmp_path / "all", SeveralOptions(seeds=(0, 1)))
    train(config, options(tmp_path / "alone", seed=1))
    assert weights(tmp_path / "all" / "seed_1") == weights(tmp_path / "alone")
    assert weights(tmp_path / "all" / "seed_0") != weights(tmp_path / "alone")


@pytest.mark.parametrize("taught", [False, True])
def test_the_same_command_goes_on_where_it_was(
    taught: bool, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Killed in the second of three seeds, after its first checkpoint; also with a teacher."""
    if taught:
        teacher = train(config, options(tmp_path / "teacher", seed=9)).weights
        raw = config.raw | {"distillation": {"teacher": str(teacher)}}
        config = check_config(raw, config.path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    seeds = SeveralOptions(seeds=(0, 1, 2))
    run(config, whole, seeds)
    calls = []

    def train_until_killed(config: Config, options: TrainOptions) -> None:
        calls.append(options.save_dir.name)
        if len(calls) == 2:
            train(replace(config, raw=config.raw | {"iters": 4}), options)
            raise KeyboardInterrupt
        train(config, options)

    monkeypatch.setattr(module, "train", train_until_killed)
    with pytest.raises(KeyboardInterrupt):
        run(config, killed, seeds)
    for late in ("iter_4", "best_model"):  # as the kill left it, after iter_2
        (killed / "seed_1" / late).rename(tmp_path / late)
    monkeypatch.setattr(module, "train", train)
    capsys.readouterr()
    run(config, killed, seeds)
    said = capsys.readouterr().out
    assert f"run 1 of 3, {killed / 'seed_0'}: done before" in said
    assert "resumed from" in said and "iter_2 at iteration 2" in said
    for seed in (0, 1, 2):
        assert weights(killed / f"seed_{seed}") == weights(whole / f"seed_{seed}")


def test_a_sweep_of_two_keys_has_all_combinations(config: Config, tmp_path: Path) -> None:
    sweep = (f"{DECAY}=0,1e-3", "loss.coef=[1, 0.4],[1, 0]")
    members = plan_members(
        loader(config), options(tmp_path / "s"), SeveralOptions(seeds=(0, 5), sweep=sweep)
    )
    folders = [m.options.save_dir.relative_to(tmp_path / "s").as_posix() for m in members]
    assert len(set(folders)) == 8
    assert folders[:2] == [f"{DECAY}=0,loss.coef=_1,_0.4_/seed_{n}" for n in (0, 5)]
    last = members[-1]
    assert (last.config.optimizer["weight_decay"], last.config.loss["coef"]) == (1e-3, [1, 0])
    assert last.options.seed == 5


def test_a_run_that_diverges_does_not_end_the_others(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def fail_once(config: Config, options: TrainOptions) -> None:
        trained.append(options.seed)
        if options.seed == 0:
            raise CheckFailed("iteration 3: the loss is nan")

    monkeypatch.setattr(module, "train", fail_once)
    with pytest.raises(CheckFailed, match=r"1 of 2 runs failed:\n.*seed_0: iteration 3"):
        run(config, tmp_path / "s", SeveralOptions(seeds=(0, 1)))
    assert trained == [0, 1]


def test_a_folder_of_other_settings_is_refused(config: Config, tmp_path: Path) -> None:
    run(config, tmp_path / "s", SeveralOptions(seeds=(0,)))
    changed = replace(config, raw=config.raw | {"lr_scheduler": {"learning_rate": 0.5}})
    with pytest.raises(UsageError, match=r"seed_0: .*\n.*learning_rate was 0.1, is 0.5"):
        run(changed, tmp_path / "s", SeveralOptions(seeds=(0, 1)))
    with pytest.raises(UsageError, match="--do_eval was True, is False"):
        run(config, tmp_path / "s", SeveralOptions(seeds=(0,)), do_eval=False)
    assert not (tmp_path / "s" / "seed_1").exists()


@pytest.mark.parametrize(
    ("several", "given", "reason"),
    [
        ({"seeds": (0, 0)}, {}, "--seeds: given twice"),
        ({"seeds": (0, 1)}, {"seed": 3}, "give one of them"),
        ({"seeds": (0,)}, {"resume_model": "output/iter_2"}, "no --resume_model"),
        ({"sweep": ("iters",)}, {}, "KEY=V1,V2 is expected, got 'iters'"),
        ({"sweep": (f"{DECAY}=1,,2",)}, {}, "values between commas"),
        ({"sweep": (f"{DECAY}=1,1",)}, {}, "--sweep: given twice"),
        ({"sweep": (f"{DECAY}=1,2", f"{DECAY}=3")}, {}, "--sweep: given twice"),
        ({"sweep": (f"{DECAY}=1,1.0",)}, {}, "are the same run"),
        ({"sweep": (f"{DECAY}=1e-4,many",)}, {}, "weight_decay"),
        ({"sweep": ("optimizr.weight_decay=1,2",)}, {}, "optimizr"),
        ({"sweep": (f"{DECAY}={'1' * 200}",)}, {}, "too long"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_trained(
    several: dict, given: dict, reason: str, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        run(config, tmp_path / "s", SeveralOptions(**several), **given)
    assert not list(tmp_path.rglob("iter_*"))


def test_under_a_launcher_they_are_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(UsageError, match="in one process"):
        run(config, tmp_path / "s", SeveralOptions(seeds=(0, 1)))


def test_values_are_split_outside_of_brackets() -> None:
    assert split_values("1e-4, [1, 2],{a: [3, 4]}") == ["1e-4", "[1, 2]", "{a: [3, 4]}"]
