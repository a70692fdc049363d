"""Every yml in configs/ makes a network that runs, with a loss for each of its heads."""

from pathlib import Path

import paddle
import pytest

from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.evaluation.protocol_choice import kept_protocols
from paddleseg_ext.evaluation.protocols import ProtocolRun
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.losses.multi_head import build_loss
from paddleseg_ext.models.build import build_model
from paddleseg_ext.training.ema import EmaOptions
from paddleseg_ext.training.optimizer import OptimizerOptions
from paddleseg_ext.training.schedules import build_schedule

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FILES = sorted(p for p in CONFIGS.glob("*/*.yml") if p.parent.name != "_base_")


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_config_builds_and_runs(path: Path) -> None:
    config = load_config(path)
    num_classes = class_table_of(config).num_classes
    model = build_model(config, num_classes)
    labels = paddle.zeros([2, 64, 128], "int64")
    images = paddle.randn([2, 3, 64, 128])

    total, parts = build_loss(config, ignore_index=255)(model(images), labels)
    assert total.shape == [] or total.size == 1
    assert bool(paddle.isfinite(total))
    assert len(parts) == len(config.loss["coef"])

    model.eval()
    with paddle.no_grad():
        logits = model(images)[0]
    assert logits.shape == [2, num_classes, 64, 128]
    OptimizerOptions.from_section(config.optimizer)
    build_schedule(config.lr_scheduler, config.iters)
    EmaOptions.from_section(config.ema or {})
    preprocess = Preprocess(config.val_dataset["transforms"])
    for protocol in kept_protocols(config.keep_best).values():
        ProtocolRun(protocol, preprocess)
