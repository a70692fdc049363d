"""Checkpoints that PaddleSeg wrote (.pdparams, .pdopt), through our commands."""

from pathlib import Path

import paddle
import pytest
from commands import call
from paddleseg.cvlibs import manager
from small_network import write_data

YML = """
batch_size: 2
iters: 8
model: {{type: FastSCNN}}
train_dataset: &data {{type: Dataset, dataset_root: {root}, mode: train, num_classes: 7,
  train_path: {root}/val.list, val_path: {root}/val.list,
  transforms: [{{type: Resize, target_size: [64, 64]}}, {{type: Normalize}}]}}
val_dataset: {{<<: *data, mode: val}}
optimizer: {{type: SGD, momentum: 0.9, weight_decay: 4.0e-5}}
lr_scheduler: {{type: PolynomialDecay, learning_rate: 0.01, end_lr: 0, power: 0.9}}
loss: {{types: [{{type: CrossEntropyLoss}}], coef: [1.0, 0.4]}}
test_config: {{auc_roc: True}}
"""


@pytest.mark.slow
def test_every_command_takes_them(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    yml, folder = tmp_path / "net.yml", tmp_path / "theirs/iter_6"
    yml.write_text(YML.format(root=tmp_path / "data"))
    model = manager.MODELS["FastSCNN"](num_classes=7)
    optimizer = paddle.optimizer.Momentum(1e-6, parameters=model.parameters())
    model(paddle.rand([2, 3, 64, 64]))[0].sum().backward()
    optimizer.step()
    folder.mkdir(parents=True)
    paddle.save(model.state_dict(), str(folder / "model.pdparams"))
    paddle.save(optimizer.state_dict(), str(folder / "model.pdopt"))
    common = ("--config", yml, "--device", "cpu")
    weights = ("--model_path", folder / "model.pdparams")
    scored = call("val.py", *common, *weights, "--save_dir", tmp_path / "val")
    assert scored.status == 0 and "Auc_roc: 0." in scored.out, scored.err
    resumed = call(
        "train.py", *common, "--resume_model", folder, "--save_dir", tmp_path / "on",
        "--log_iters", 1,
    )  # fmt: skip
    assert resumed.status == 0, resumed.err
    assert "iter: 7/8" in resumed.out and "iter: 6/8" not in resumed.out
    assert "by PaddleSeg: the run goes on with its weights and optimizer" in resumed.out
    tuned = call(
        "train.py", *common, "--finetune", folder / "model.pdparams", "--iters", 1,
        "--save_dir", tmp_path / "tuned",
    )  # fmt: skip
    assert tuned.status == 0, tuned.err
    exported = call(
        "export_model.py", "--config", yml, *weights, "--save_dir", tmp_path / "bundle",
        "--input_shape", 64, 64, "--onnx", False,
    )  # fmt: skip
    assert exported.status == 0, exported.err
    over = call(
        "train.py", *common, "--resume_model", folder, "--iters", 6, "--save_dir", tmp_path / "x"
    )
    assert over.status == 2 and "is over; raise --iters" in over.error_lines[0]
