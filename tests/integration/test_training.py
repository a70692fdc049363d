"""train.py as a user runs it: it learns, it resumes to the bit, it says what is wrong."""

import json
import re
import shutil
import time
from itertools import islice
from pathlib import Path

import pytest
import yaml
from commands import PROJECT, call, spawn

from paddleseg_ext.checkpoints.manifest import configuration_of, read_manifest
from paddleseg_ext.checkpoints.store import read_arrays
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.training.train import TrainOptions
from paddleseg_ext.training.train import train as train_from_python

CONFIG = PROJECT / "configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"


def write_config(data: Path, path: Path, **changes: object) -> Path:
    """BiSeNetV1's yml on 64x32 crops of `data`."""
    config = {
        "_base_": str(CONFIG),
        "batch_size": 2,
        "iters": 4,
        "train_dataset": {
            "dataset_root": str(data),
            "transforms": [
                {"type": "RandomPaddingCrop", "crop_size": [64, 32]},
                {"type": "RandomHorizontalFlip"},
                {"type": "RandomDistort"},
                {"type": "Normalize"},
            ],
        },
        "val_dataset": {"dataset_root": str(data)},
        "loss": {"types": [{"type": "OhemCrossEntropyLoss"}], "coef": [1, 1, 1]},
    }
    path.write_text(yaml.safe_dump(config | changes))
    return path


def train(config: Path, save_dir: Path, *flags: object):
    return call("train.py", "--config", config, "--device", "cpu", "--save_dir", save_dir, *flags)


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_four_and_four_iterations_equal_eight(tiny_cityscapes: Path, tmp_path: Path) -> None:
    config = write_config(tiny_cityscapes, tmp_path / "a.yml")
    flags = ("--iters", 8, "--save_interval", 4, "--log_iters", 2, "--do_eval")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finished = train(config, whole, *flags)
    assert finished.status == 0, finished.err
    assert "[TRAIN] epoch: 2, iter: 4/8, loss: " in finished.out
    assert finished.out.count("[EVAL] #Images: 2 mIoU: ") == 2

    shutil.copytree(whole / "iter_4", parts / "iter_4")
    finished = train(config, parts, *flags, "--resume_model", parts / "iter_4")
    assert finished.status == 0, finished.err
    for name in ("model.pdparams", "model.pdopt", "train_state.json"):
        assert same_bytes(whole / "iter_8" / name, parts / "iter_8" / name), name
    assert read_manifest(whole / "best_model/model.pdparams").scores["num_images"] == 2
    first, second = (json.loads((d / "history.json").read_text()) for d in (whole, parts))
    assert first["train"][2:] == second["train"]
    assert [e["iter"] for e in first["eval"]] == [4, 8]

    another_seed = train(config, tmp_path / "seed", *flags, "--seed", 1)
    assert another_seed.status == 0
    assert not same_bytes(whole / "iter_8/model.pdparams", tmp_path / "seed/iter_8/model.pdparams")
    refused = train(config, parts, *flags, "--resume_model", parts / "iter_4", "--seed", 1)
    assert refused.status == 2
    assert "that run had seed 0, this one has 1" in refused.err


def test_python_trains_the_weights_of_the_command(tiny_cityscapes: Path, tmp_path: Path) -> None:
    config = write_config(tiny_cityscapes, tmp_path / "a.yml", iters=2)
    assert train(config, tmp_path / "command", "--do_eval", "--log_iters", 1).status == 0
    options = TrainOptions(tmp_path / "python", do_eval=True, log_iters=1, device="cpu")
    result = train_from_python(load_config(config), options)
    assert (result.iteration, len(result.history.train), len(result.history.eval)) == (2, 2, 1)
    assert result.best_mean_iou == result.history.eval[0].mean_iou
    assert result.best_weights is not None
    assert result.best_weights.read_bytes() == result.weights.read_bytes()
    assert same_bytes(tmp_path / "command/iter_2/model.pdparams", result.weights)

    opened = configuration_of(result.weights)
    assert opened.model == load_config(config).model
    assert "dataset_root" not in opened.val_dataset
    table = class_table_of(opened)
    assert table.class_names[0] == "road"


def test_an_earlier_run_is_set_aside_and_old_checkpoints_go(
    tiny_cityscapes: Path, tmp_path: Path
) -> None:
    config, run = write_config(tiny_cityscapes, tmp_path / "a.yml"), tmp_path / "run"
    flags = ("--iters", 3, "--save_interval", 1, "--keep_checkpoint_max", 2)
    assert train(config, run, *flags).status == 0
    names = [".lock", "config.yml", "history.json", "iter_2", "iter_3", "run.json"]
    assert sorted(p.name for p in run.iterdir()) == names
    before = (run / "iter_3/model.pdparams").read_bytes()
    finished = train(config, run, *flags, "--seed", 3)
    assert finished.status == 0
    assert "moved to" in finished.out
    assert (run / "previous_runs/1/iter_3/model.pdparams").read_bytes() == before
    assert (run / "iter_3/model.pdparams").read_bytes() != before


def test_a_loss_that_is_not_finite_stops_the_run(tiny_cityscapes: Path, tmp_path: Path) -> None:
    config, run = write_config(tiny_cityscapes, tmp_path / "a.yml"), tmp_path / "run"
    flags = ("--iters", 9, "--save_interval", 1, "--learning_rate", 1e30)
    finished = train(config, run, *flags)
    assert finished.status == 1
    assert len(finished.error_lines) == 1
    assert "the loss is" in finished.error_lines[0]
    last = sorted(run.glob("iter_*"))[-1]
    assert read_arrays(last / "model.pdparams")


def corrupt_image(data: Path) -> str:
    path = next((data / "leftImg8bit/train").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:100])
    return path.name


def empty_label(data: Path) -> str:
    path = next((data / "gtFine/train").rglob("*.png"))
    path.write_bytes(b"")
    return path.name


def missing_label(data: Path) -> str:
    path = next((data / "gtFine/train").rglob("*.png"))
    path.unlink()
    return path.name.replace("_gtFine_labelTrainIds", "_leftImg8bit")


def label_of_another_size(data: Path) -> str:
    import cv2

    path = next((data / "gtFine/val").rglob("*.png"))
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:-1])
    return path.name


def label_value_77(data: Path) -> str:
    import cv2

    path = next((data / "gtFine/train").rglob("*.png"))
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[10, 10] = 77
    cv2.imwrite(str(path), label)
    return "77"


@pytest.mark.parametrize(
    "damage", [corrupt_image, empty_label, missing_label, label_of_another_size, label_value_77]
)
def test_bad_data_is_found_before_training(tiny_cityscapes: Path, tmp_path: Path, damage) -> None:
    config, run = write_config(tiny_cityscapes, tmp_path / "a.yml"), tmp_path / "run"
    words = damage(tiny_cityscapes)
    finished = train(config, run, "--do_eval")
    assert finished.status == 2
    assert "Traceback" not in finished.err
    assert words in finished.err
    assert not list(run.glob("*"))


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["optimizer.momentun=0.9"], "did you mean 'momentum'"),
        (["model.type=BiSeNetV11"], "did you mean 'BiSeNetV1'"),
        (["model.backbone.type=ResNet19"], "did you mean 'ResNet18'"),
        (["model.varient=author"], "did you mean 'variant'"),
        (["model.num_classes=20"], "model.num_classes is 20, the data set has 19 classes"),
        (["loss.coef=[1,1]"], "3 heads in training, loss.coef has 2"),
        (["train_dataset.transforms.0.crop_siz=[8,8]"], "did you mean 'crop_size'"),
        (["train_dataset.dataset_root=nowhere"], "nowhere"),
        (["batch_size=7"], "6 samples, fewer than one batch of 7"),
        (["pretrained=nowhere.pdparams"], "pretrained: 'nowhere.pdparams' does not exist"),
        (["pretrained=https://example.org/a.pdparams"], "download https://example.org/a.pdparams"),
    ],
)
def test_wrong_configurations_are_one_clear_line(
    tiny_cityscapes: Path, tmp_path: Path, opts: list[str], words: str
) -> None:
    config, run = write_config(tiny_cityscapes, tmp_path / "a.yml"), tmp_path / "run"
    finished = train(config, run, "--opts", *opts)
    assert finished.status == 2
    assert len(finished.error_lines) == 1
    assert words in finished.error_lines[0]
    assert not list(run.glob("iter_*"))


def test_a_checkpoint_of_another_network_is_refused(tiny_cityscapes: Path, tmp_path: Path) -> None:
    config, run = write_config(tiny_cityscapes, tmp_path / "a.yml"), tmp_path / "run"
    assert train(config, run, "--iters", 2, "--save_interval", 1).status == 0
    finished = train(
        config, run, "--resume_model", run / "iter_1", "--opts", "model.variant=coincheung"
    )
    assert finished.status == 2
    assert "does not fit BiSeNetV1" in finished.error_lines[0]
    assert sorted(p.name for p in run.glob("iter_*")) == ["iter_1", "iter_2"]


def test_wrong_flags_end_before_paddle_is_imported(tmp_path: Path) -> None:
    started = time.monotonic()
    process = spawn("train.py", "--config", CONFIG, "--iter", 4)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--iter" in output
    assert "paddle" not in output.lower().replace("paddleseg", "")
    assert time.monotonic() - started < 60


def test_features_of_the_loop_from_the_command_line(tiny_cityscapes: Path, tmp_path: Path) -> None:
    """Averaged weights, accumulation, the best by two protocols: then fine-tuned, frozen."""
    config = write_config(
        tiny_cityscapes,
        tmp_path / "a.yml",
        ema={"decay": 0.5},
        keep_best=["scale_0.5", "scale_0.75"],
    )
    first = ("--iters", 2, "--save_interval", 1, "--do_eval", "--accumulate", 3)
    finished = train(config, tmp_path / "first", *first, "--early_stop_intervals", 9)
    assert finished.status == 0, finished.err
    assert "batch 2 x 3" in finished.out
    assert finished.out.count("scales 0.5; ") == finished.out.count("scales 0.75; ") == 2
    best = {p.name: p / "model.pdparams" for p in (tmp_path / "first").glob("best_model*")}
    assert sorted(best) == ["best_model", "best_model_scale_0.5", "best_model_scale_0.75"]
    manifest = read_manifest(best["best_model_scale_0.75"])
    assert manifest.weights == "averaged"
    assert manifest.scores["protocol"].startswith("scale_0.75")
    scored = call(
        *("val.py", "--config", config, "--device", "cpu", "--protocol", "scale_0.75"),
        *("--model_path", best["best_model_scale_0.75"], "--save_dir", tmp_path / "val"),
    )
    assert scored.status == 0, scored.err
    again = json.loads((tmp_path / "val/val.json").read_text())["evaluation"]
    assert again["confusion_matrix"] == manifest.scores["confusion_matrix"]

    tuned = ("--iters", 1, "--finetune", best["best_model"], "--opts", "freeze_bn=true", "ema=null")
    finished = train(config, tmp_path / "second", *tuned)
    assert finished.status == 0, finished.err
    assert "tensors were taken" in finished.out
    old, new = (
        read_arrays(path)
        for path in (best["best_model"], tmp_path / "second/iter_1/model.pdparams")
    )
    statistics = [name for name in old if name.endswith(("_mean", "_variance"))]
    assert len(statistics) > 20
    assert all((old[name] == new[name]).all() for name in statistics)
    assert any((old[name] != new[name]).any() for name in old)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precision", "amp_O1"], "use --device gpu, or --precision fp32"),
        (["--precision", "fp16", "--amp_level", "O2"], "--precision fp16: .* on a CPU"),
        (["--amp_level", "O1"], "belongs to --precision fp16"),
        (["--early_stop", 3], "add --do_eval"),
        (["--finetune", "nowhere.pdparams"], "--finetune: 'nowhere.pdparams' does not exist"),
        (["--finetune", "a", "--resume_model", "b"], "give one of them"),
        (["--profile", 3], "2 iterations come before, and the run has 4"),
        (["--opts", "ema={decoy: 0.9}"], "ema: unknown key 'decoy'"),
        (["--opts", "ema=3"], "'ema' must be a section"),
        (["--opts", "accumulate=0"], "'accumulate' must be a whole number of at least 1"),
        (["--opts", "freeze_bn=1"], "'freeze_bn' must be true or false"),
        (["--opts", "freeze_bn=true"], "freeze_bn: true keeps the running statistics"),
        (["--opts", "freeze_bn=true", "--resume_model", "auto"], "give --finetune"),
        (["--opts", "keep_best=[scale_0.7]"], "did you mean 'scale_0.75'"),
        (["--opts", "keep_best=[slide]"], "keep_best: "),
        (["--accumulate", 4], "6 samples, fewer than one batch of 8"),
    ],
)
def test_wrong_features_are_one_clear_line(
    tiny_cityscapes_shared: Path, tmp_path: Path, flags: list, words: str
) -> None:
    config, run = write_config(tiny_cityscapes_shared, tmp_path / "a.yml"), tmp_path / "run"
    finished = train(config, run, *flags)
    assert finished.status == 2, finished.out
    assert len(finished.error_lines) == 1
    assert re.search(words, finished.error_lines[0]), finished.error_lines
    assert not list(run.glob("iter_*"))


def run_until_killed(config: Path, run: Path, iterations: int, seconds: float) -> None:
    """Start or go on with a run and kill it `seconds` after some iterations."""
    process = spawn(
        "train.py",
        "--config",
        config,
        "--device",
        "cpu",
        "--save_dir",
        run,
        "--iters",
        40,
        "--save_interval",
        1,
        "--log_iters",
        1,
        "--resume_model",
        "auto",
        "--keep_checkpoint_max",
        2,
    )
    assert process.stdout is not None
    done = (line for line in process.stdout if "[TRAIN]" in line)
    for _ in islice(done, iterations):
        pass
    time.sleep(seconds)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_twenty_kills_change_nothing(tiny_cityscapes: Path, tmp_path: Path) -> None:
    import random

    config = write_config(tiny_cityscapes, tmp_path / "a.yml", ema={"decay": 0.9})
    flags = ("--iters", 40, "--save_interval", 20)
    assert train(config, tmp_path / "whole", *flags).status == 0
    run, moments = tmp_path / "killed", random.Random(1)
    for _ in range(20):
        run_until_killed(config, run, moments.randint(1, 3), moments.uniform(0.0, 0.6))
        for folder in run.glob("iter_*"):
            assert read_arrays(folder / "model.pdparams")
            assert read_manifest(folder / "model.pdparams").sha256
    assert list(run.glob("iter_*")), "killed before anything was saved"
    finished = train(config, run, *flags, "--resume_model", "auto")
    assert finished.status == 0 or "has done 40 iterations" in finished.err
    for name in ("model.pdparams", "model_raw.pdparams", "model.pdopt"):
        assert same_bytes(tmp_path / "whole/iter_40" / name, run / "iter_40" / name), name
