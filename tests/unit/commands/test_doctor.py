"""`doctor` refuses the configurations that `train` refuses, also where the data is missing."""

import re
from pathlib import Path

import pytest

from paddleseg_ext.commands import doctor, train
from paddleseg_ext.common.errors import UsageError

CONFIG = "bisenetv1_cityscapes_1024x512_160k"  # its data is not here


@pytest.mark.parametrize(
    "opt",
    [
        "optimizer.foo=1",
        "lr_scheduler.foo=1",
        "ema={foo: 1}",
        "distillation={foo: 1}",
        "keep_best=[foo]",
        "initialization=foo",
        "loss.foo=1",
        "loss.types.0.foo=1",
        "loss.coef=foo",
        "train_dataset.foo=1",
        "train_dataset.transforms.0.foo=1",
        "val_dataset.foo=1",
        "model.foo=1",
    ],
)
@pytest.mark.parametrize("has_data", [True, False])
def test_a_wrong_key_is_refused_as_by_train(
    tiny_cityscapes: Path, tmp_path: Path, opt: str, has_data: bool
) -> None:
    given = ["--config", CONFIG, "--opts", opt]
    if has_data:
        given += [
            f"{name}.dataset_root={tiny_cityscapes}" for name in ("train_dataset", "val_dataset")
        ]
    with pytest.raises(UsageError, match="foo") as refused:
        doctor.main([*given, "--input_shape", "1", "3", "64", "64"])
    if has_data:
        train_flags = ["--save_dir", str(tmp_path / "run"), "--device", "cpu", "--do_eval"]
        with pytest.raises(UsageError, match=re.escape(str(refused.value))):
            train.main([*given, *train_flags, "--batch_size", "1"])


def test_other_channels_are_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"--input_shape: 1 .* got 4: .* of 3 input channels$"):
        doctor.main(["--config", CONFIG, "--input_shape", "1", "4", "64", "64"])


def test_a_network_alone_has_nothing_to_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    yml = tmp_path / "net.yml"
    yml.write_text("model: {type: BiSeNetV2, num_classes: 4}\n", encoding="utf-8")
    doctor.main(["--config", str(yml), "--input_shape", "1", "3", "64", "64"])
    assert "parameters" in capsys.readouterr().out
