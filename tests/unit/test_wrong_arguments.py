"""Wrong values of calls from Python are one line, as those of flags are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleseg_ext import Predictor
from paddleseg_ext.commands.main import parser_of
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import check_config, load_config
from paddleseg_ext.images.scenes import SceneOptions
from paddleseg_ext.inference.pipeline import as_sample

DEMO = "bisenetv1_synthetic_demo"


@pytest.mark.parametrize("value", [None, 3, ["a"]])
def test_what_is_no_path(value: Any) -> None:
    with pytest.raises(UsageError, match="source: a path is expected, got"):
        Predictor.open(value)
    with pytest.raises(UsageError, match="configuration: a path is expected, got"):
        load_config(value)


@pytest.mark.parametrize("value", [3, None, ("a", 1)])
def test_what_is_no_text_of_opts(value: Any) -> None:
    with pytest.raises(UsageError, match="--opts: texts 'key=value' are expected"):
        load_config(DEMO, [value])


@pytest.mark.parametrize("value", [2.5, 0, "two", True, [3]])
def test_a_class_count_that_is_none(value: Any) -> None:
    with pytest.raises(UsageError, match="num_classes: a whole number, at least 1"):
        check_config({"model": {"type": "BiSeNetV1", "num_classes": value}}, "net.yml")


@pytest.mark.parametrize("value", [np.zeros((4, 4, 3), np.uint8), 3, None])
def test_what_cannot_be_streamed(value: Any) -> None:
    with pytest.raises(UsageError, match="an image in memory goes to predictor"):
        as_sample(value)
    assert as_sample(Path("a/b.png")).name == "b"


@pytest.mark.parametrize("changes", [{"seed": -1}, {"num_images": 0}, {"size": ("a", 3)}])
def test_scenes(changes: dict) -> None:
    with pytest.raises(UsageError, match="SceneOptions: "):
        SceneOptions(**changes)


@pytest.mark.parametrize(
    ("verb", "flag", "words"),
    [
        ("train", ["--use_ema"], "averaged weights are a section of the yml"),
        ("train", ["--data_format", "NHWC"], "(N, C, H, W) only"),
        ("predict", ["--flip_vertical"], "no protocol here has it"),
        ("export", ["--with_softmax"], "use --output_op softmax"),
    ],
)
def test_flags_of_paddlesegs_that_mean_nothing_here_say_so(
    verb: str, flag: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parser_of(verb).parse_args(["--config", "a.yml", *flag])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and words in said and flag[0] in said
