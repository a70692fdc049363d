"""A training is checked as a whole before Paddle is imported."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_training import tiny_config, train_tiny

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.plan import make_plan


def test_sections_are_typed_once(tmp_path: Path) -> None:
    changes = {"ema": {"decay": 0.9}, "keep_best": ["scale_0.5", "scale_0.75"]}
    plan = make_plan(
        tiny_config(tmp_path, **changes),
        TrainOptions(save_dir=tmp_path / "run", device="cpu", do_eval=True, resume_model="auto"),
    )
    assert (plan.optimizer.type, plan.optimizer.weight_decay) == ("SGD", 1e-4)
    assert plan.schedule(0) == pytest.approx(0.1)
    assert plan.ema is not None and plan.ema.decay == 0.9
    assert list(plan.protocols) == ["scale_0.5", "scale_0.75"]
    assert (plan.device, plan.precision, plan.resumed) == ("cpu", "fp32", None)
    assert (tmp_path / "run").is_dir()


def test_the_protocol_of_the_yml_is_the_only_one_without_keep_best(tmp_path: Path) -> None:
    slide = {"is_slide": True, "crop_size": [4, 4], "stride": [2, 2]}
    config = tiny_config(tmp_path, test_config=slide)
    options = TrainOptions(save_dir=tmp_path, device="cpu", do_eval=True)
    protocols = make_plan(config, options).protocols
    assert list(protocols) == [None]
    assert protocols[None].describe().startswith("slide")


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"optimizer": {"type": "sdg"}}, {}, "did you mean 'sgd'"),
        ({"lr_scheduler": {}}, {}, "lr_scheduler: 'learning_rate' is missing"),
        ({"ema": {"decay": 2}}, {}, "ema: 'decay' must be"),
        ({"keep_best": ["scale_0.7"]}, {}, "did you mean 'scale_0.75'"),
        ({"val_dataset": None}, {"do_eval": True}, "the section 'val_dataset' is missing"),
        ({"train_dataset": None}, {}, "the section 'train_dataset' is missing"),
        ({"test_config": {"slide": True}}, {"do_eval": True}, "did you mean 'is_slide'"),
        (
            {"test_config": {"aug_evl": True}, "keep_best": ["scale_0.5"]},
            {"do_eval": True},
            "did you mean 'aug_eval'",
        ),
        ({}, {"early_stop": 2}, "add --do_eval"),
        ({}, {"finetune": "a", "resume_model": "b"}, "give one of them"),
        ({}, {"finetune": "nowhere.pdparams"}, "--finetune: 'nowhere.pdparams' does not exist"),
        ({}, {"resume_model": "nowhere"}, "'nowhere' is not a folder"),
        ({"freeze_bn": True}, {}, "give --finetune, or 'pretrained:'"),
        ({}, {"profile": 3}, "2 iterations come before, and the run has 4 to do"),
        ({}, {"precision": "amp_O1"}, "use --device gpu, or --precision fp32"),
    ],
)
def test_wrong_plans_are_one_clear_line(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    config = tiny_config(tmp_path, **changes)
    with pytest.raises(UsageError, match=words) as caught:
        make_plan(config, TrainOptions(save_dir=tmp_path / "run", device="cpu", **options))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_several_processes_do_not_train_in_static_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    options = TrainOptions(save_dir=tmp_path, device="cpu", to_static=True)
    with pytest.raises(UsageError, match="trains in one process"):
        make_plan(tiny_config(tmp_path), options)


@pytest.mark.parametrize("text", ["", "[]", '{"seed": "0"}', '{"moon": 1}', "{"])
def test_a_damaged_state_is_one_line(tmp_path: Path, text: str) -> None:
    config, run = tiny_config(tmp_path), tmp_path / "run"
    train_tiny(config, run)
    (run / "iter_2/train_state.json").write_text(text)
    with pytest.raises(UsageError, match=r"train_state\.json('|:) (is empty|not a training state)"):
        train_tiny(config, run, resume_model=str(run / "iter_2"))


@pytest.mark.parametrize("name", ["model.pdopt", "model_raw.pdparams"])
def test_a_flipped_bit_beside_the_weights_is_found(tmp_path: Path, name: str) -> None:
    config, run = tiny_config(tmp_path, ema={}), tmp_path / "run"
    train_tiny(config, run)
    data = bytearray((run / "iter_2" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (run / "iter_2" / name).write_bytes(bytes(data))
    with pytest.raises(UsageError, match=f"{name}: its sha256 is not"):
        train_tiny(config, run, resume_model=str(run / "iter_2"))


def test_planning_imports_neither_paddle_nor_paddleseg(tmp_path: Path) -> None:
    tiny_config(tmp_path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from paddleseg_ext.config import load_config\n"
        "from paddleseg_ext.training.options import TrainOptions\n"
        "from paddleseg_ext.training.plan import make_plan\n"
        "from paddleseg_ext.training import train\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "make_plan(load_config(folder / 'tiny.yml'), TrainOptions(folder, device='cpu'))\n"
        "assert not {'paddle', 'paddleseg'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_file_that_the_recipe_starts_from_is_a_warning(tmp_path: Path) -> None:
    weights = {"file": str(tmp_path / "w.pdparams"), "url": "https://a.b/c.pth", "system": "stdc"}
    options = TrainOptions(save_dir=tmp_path / "run", device="cpu")

    def warnings(options: TrainOptions, **changes: Any) -> list[str]:
        return make_plan(
            tiny_config(tmp_path, starting_weights=weights, **changes), options
        ).warnings()

    (line,) = warnings(options)
    assert "import --from stdc" in line
    assert not warnings(options, pretrained="none")
    plan = make_plan(tiny_config(tmp_path, starting_weights=weights), options)
    assert not replace(plan, begun=5).warnings()  # the weights are those of PaddleSeg's checkpoint
    own = tmp_path / "own.pdparams"
    own.write_bytes(b"x")
    assert not warnings(TrainOptions(save_dir=tmp_path / "run", device="cpu", finetune=str(own)))
    (tmp_path / "w.pdparams").touch()
    assert not warnings(options)


def test_an_unknown_initialization_is_refused_before_paddle(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, initialization="mmsegg")
    with pytest.raises(UsageError, match=r"initialization: .*did you mean 'mmseg'"):
        make_plan(config, TrainOptions(save_dir=tmp_path, device="cpu"))
