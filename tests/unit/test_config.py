"""yml -> checked configuration."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config

BASE = """
batch_size: 4
iters: 100
model: {type: BiSeNetV1, backbone: {type: ResNet18}}
optimizer: {type: sgd, weight_decay: 1e-4}
train_dataset: {type: Cityscapes, transforms: [{type: Normalize}, {type: Resize}]}
"""


def write(directory: Path, text: str, name: str = "a.yml") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_bases_merge_section_by_section(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base.yml")
    child = write(
        tmp_path, "_base_: ../base.yml\niters: 7\nmodel: {backbone: {type: X}}", "d/c.yml"
    )
    config = load_config(child)
    assert (config.iters, config.batch_size) == (7, 4)
    assert config.model == {"type": "BiSeNetV1", "backbone": {"type": "X"}}


def test_inherited_false_replaces_a_section(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base.yml")
    child = write(tmp_path, "_base_: base.yml\nmodel: {_inherited_: false, type: Y}")
    assert load_config(child).model == {"type": "Y"}


def test_later_bases_win_and_cycles_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "iters: 1\nbatch_size: 9", "one.yml")
    write(tmp_path, "iters: 2", "two.yml")
    config = load_config(write(tmp_path, "_base_: [one.yml, two.yml]"))
    assert (config.iters, config.batch_size) == (2, 9)
    with pytest.raises(UsageError, match="leads back to itself"):
        load_config(write(tmp_path, "_base_: me.yml", "me.yml"))


def test_opts_reach_lists_and_new_keys(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    opts = ["optimizer.momentum=0.5", "train_dataset.transforms.1.target_size=[4, 2]", "iters=3"]
    config = load_config(path, opts, batch_size=2, learning_rate=0.5)
    assert config.optimizer["momentum"] == 0.5
    assert config.train_dataset["transforms"][1] == {"type": "Resize", "target_size": [4, 2]}
    assert (config.iters, config.batch_size) == (3, 2)
    assert config.lr_scheduler == {"learning_rate": 0.5}


def test_a_former_key_means_what_it_meant(tmp_path: Path) -> None:
    write(tmp_path, "model: {type: BiSeNetV1, variant: author}\n", "base.yml")
    child = write(tmp_path, "_base_: base.yml\nmodel: {wiring: coincheung}\n")
    assert load_config(child).model == {"type": "BiSeNetV1", "variant": "coincheung"}
    opted = load_config(child, ["model.wiring=mmseg"])
    assert opted.model == {"type": "BiSeNetV1", "variant": "mmseg"}


def test_a_key_under_both_names_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {type: BiSeNetV1, variant: author, wiring: author}\n")
    with pytest.raises(UsageError, match="'wiring' is the former name of 'variant'"):
        load_config(path)


def test_a_flag_fills_an_empty_section(tmp_path: Path) -> None:
    yml = write(tmp_path, BASE + "lr_scheduler:")
    assert load_config(yml, learning_rate=0.5).lr_scheduler == {"learning_rate": 0.5}
    yml = write(tmp_path, BASE + "lr_scheduler: poly")
    with pytest.raises(UsageError, match="'lr_scheduler' must be a section"):
        load_config(yml, learning_rate=0.5)


def test_a_number_without_a_dot_is_a_number(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, BASE)).optimizer["weight_decay"] == 1e-4


def test_defaults_fill_the_keys_that_are_left_out(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, BASE + "keep_best: [scale_0.5]"))
    assert (config.accumulate, config.sync_bn, config.registry) == (1, True, "paddleseg_ext")
    whole = config.with_defaults()
    assert whole["batch_size"] == 4 and whole["absent_class"] == "skip"
    assert whole["keep_best"] == ["scale_0.5"] and "loss" not in whole
    assert "absent_class" not in config.raw
    with pytest.raises(UsageError, match="the section 'loss' is missing"):
        _ = config.loss


def test_null_takes_a_key_away(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, BASE + "pretrained: x.pdparams"), ["pretrained=null"])
    assert config.pretrained is None
    opts = ["model.backbone.type=null", "train_dataset.transforms.0.mean=null", "model.typ=null"]
    config = load_config(write(tmp_path, BASE), opts)
    assert config.model == {"type": "BiSeNetV1", "backbone": {}, "typ": None}
    # A key that is not there is left to its component, which knows its own.
    assert config.train_dataset["transforms"][0] == {"type": "Normalize", "mean": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batchsize: 4", r"unknown key 'batchsize' \(did you mean 'batch_size'\?\)"),
        ("iters: many", "'iters' must be a whole number of at least 1, got 'many'"),
        ("iters: 0", "'iters' must be a whole number of at least 1, got 0"),
        ("model: BiSeNetV1", "'model' must be a section"),
        ("iters: 1\niters: 2", "line 2: the key 'iters' appears twice"),
        ("model: {type: [", "line 1"),
        ("absent_class: none", "'absent_class' must be one of skip, zero, one, smooth, got 'none'"),
        ("registry: paddelseg", "'registry' must be one of paddleseg_ext, paddleseg, got 'padd"),
        ("- a\n- b", "a yml of sections"),
        ("to_static_training: 5", "'to_static_training' must be true or false, got 5"),
        ("mean: [0.5]", r"unknown key 'mean' \(known"),
        ("model: {type: FCN}\nbatchsize: 4", "unknown key 'batchsize' .did you mean 'batch_size'"),
        ("export: [Normalize]", "'export' must be a section"),
        ("Deploy: {}", "the deploy.yaml of a bundle"),
        ("model: !!python/object/apply:os.system ['echo gone']", "could not determine"),
        ("_base_: nowhere.yml", "nowhere.yml' does not exist"),
        ("_base_:", "'_base_' must be a file or a list of files, got None"),
        ("_base_: [a.yml, 5]", "'_base_' must be a file or a list of files"),
    ],
)
def test_wrong_ymls_are_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        ("iters", "'key=value' is expected"),
        ("optimiser.momentum=1", "did you mean 'optimizer'"),
        ("train_dataset.transforms.7.type=X", "items 0 to 1"),
        ("train_dataset.transforms.².type=X", "items 0 to 1"),
        ("itters=5", "did you mean 'iters'"),
        ("pretraned=null", "did you mean 'pretrained'"),
        ("iters.x=5", "has no keys"),
    ],
)
def test_wrong_opts_are_one_clear_line(tmp_path: Path, opt: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config(write(tmp_path, BASE), [opt])


@pytest.mark.parametrize("network", ["type: FCN", "type: STDCSeg, backbone: {type: STDC1}"])
def test_keys_that_paddleseg_does_not_read_are_warned_of(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"model: {{{network}}}\nlearning_rate: 1\nmean: &mean [0.5]\niters: 3"
    config = load_config(write(tmp_path, text))
    said = capsys.readouterr().out
    assert "learning_rate, mean; the rate is that of lr_scheduler" in said
    assert said.count("WARNING") == 1
    assert set(config.raw) == {"model", "iters"}


def test_a_repeated_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = "model: {type: FCN}\niters: 1\niters: 2\nbatch_size: 3\nbatch_size: 3"
    path = write(tmp_path, base, "base.yml")
    child = write(tmp_path, "_base_: base.yml")
    assert load_config(child).iters == 2  # as in PaddleSeg
    said = capsys.readouterr().out
    assert f"{path}, line 3: the key 'iters' appears twice (first in line 2), with another" in said
    assert "line 5: the key 'batch_size' appears twice (first in line 4), with the same" in said
    ours = write(tmp_path, base.replace("FCN", "BiSeNetV2"))
    with pytest.raises(UsageError, match="line 3: the key 'iters' appears twice"):
        load_config(ours)


def test_an_unknown_key_of_the_loss_is_refused_by_every_command(tmp_path: Path) -> None:
    path = tmp_path / "net.yml"
    path.write_text("model: {type: BiSeNetV1}\nloss: {types: [{type: X}], coef: [1]}\n")
    with pytest.raises(
        UsageError, match=r"net\.yml: loss: unknown key 'foo' \(known: coef, types\)"
    ):
        load_config(path, ["loss.foo=x"])
    with pytest.raises(
        UsageError, match=r"net\.yml: loss: unknown key 'type' \(did you mean 'types'"
    ):
        load_config(path, ["loss.type=x"])
