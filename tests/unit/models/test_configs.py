"""Every yml in configs/ makes a network that runs, with a loss for each of its heads."""

from pathlib import Path

import paddle
import pytest

from paddleseg_ext.common.options import from_section
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.evaluation.protocol_choice import kept_protocols
from paddleseg_ext.evaluation.protocols import check_protocol
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.losses.multi_head import build_loss
from paddleseg_ext.models.build import build_model
from paddleseg_ext.registry import TRANSFORMS, build
from paddleseg_ext.training.ema import EmaOptions
from paddleseg_ext.training.optimizer import OptimizerOptions
from paddleseg_ext.training.schedules import build_schedule

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
NAMED = sorted(p for p in CONFIGS.glob("*/*.yml") if p.parent.name != "_base_")
FILES = [*NAMED, CONFIGS / "_base_/custom.yml"]  # complete, but for the data
# Backbones of 50 layers and more take their time.
SLOW = ("_r50_", "_r101_")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[pytest.mark.slow] if any(x in p.stem for x in SLOW) else [])
        for p in FILES
    ],
    ids=[p.stem for p in FILES],
)
def test_config_builds_and_runs(path: Path) -> None:
    config = load_config(path)
    num_classes = class_table_of(config).num_classes
    model = build_model(config, num_classes)
    labels = paddle.zeros([2, 32, 64], "int64")
    images = paddle.randn([2, 3, 32, 64])

    total, parts = build_loss(config, ignore_index=255)(model(images), labels)
    assert total.shape == [] or total.size == 1
    assert bool(paddle.isfinite(total))
    assert len(parts) == len(config.loss["coef"])

    model.eval()
    with paddle.no_grad():
        logits = model(images)[0]
    assert logits.shape == [2, num_classes, 32, 64]
    OptimizerOptions.from_section(config.optimizer)
    build_schedule(config.lr_scheduler, config.iters)
    from_section(EmaOptions, config.ema or {}, "ema")
    preprocess = Preprocess(config.val_dataset["transforms"])
    for protocol in kept_protocols(config.keep_best).values():
        check_protocol(protocol, preprocess)
    for transform in config.train_dataset["transforms"]:
        build(TRANSFORMS, transform, "train_dataset.transforms")


@pytest.mark.parametrize("path", NAMED, ids=[p.stem for p in NAMED])
def test_config_opens_with_its_command(path: Path) -> None:
    opening = path.read_text().partition("_base_:")[0]
    assert f"--config configs/{path.parent.name}/{path.name}" in opening.replace("\\\n#", " ")
    assert all(line.startswith("#") for line in opening.splitlines())


def test_every_config_stands_in_its_table() -> None:
    missing = [
        path.name
        for path in NAMED
        if "camvid_256x192" not in path.name
        and f"({path.name})" not in (path.parent / "README.md").read_text()
    ]
    assert not missing
