"""The file that a recipe starts from: used where it exists, else a line with the remedy."""

from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config, check_config
from paddleseg_ext.models.starting_weights import (
    files_to_start_from,
    missing_start,
    starting_weights,
)

FILE = "weights/resnet18.pdparams"
WEIGHTS = {"file": FILE, "url": "https://a.b/models/resnet18-5c.pth", "system": "torchvision"}


def config_of(**keys: Any) -> Config:
    model = {"type": "BiSeNetV1", "backbone": {"type": "ResNet18"}}
    return check_config({"model": model, "starting_weights": WEIGHTS} | keys, "r.yml")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _make_the_file() -> None:
    Path(FILE).parent.mkdir()
    Path(FILE).write_bytes(b"")


def test_without_the_file_one_line_has_the_two_commands() -> None:
    assert files_to_start_from(config_of()) == {}
    line = missing_start(config_of())
    assert "\n" not in line
    assert "curl -LO https://a.b/models/resnet18-5c.pth" in line
    assert (
        f"paddleseg-ext import --from torchvision --weights resnet18-5c.pth --save_path {FILE}."
        in line
    )
    assert "--opts pretrained=none" in line


def test_the_file_is_used_where_it_exists() -> None:
    _make_the_file()
    assert files_to_start_from(config_of()) == {"model.backbone.pretrained": FILE}
    whole = config_of(starting_weights=WEIGHTS | {"key": "pretrained"})
    assert files_to_start_from(whole) == {"pretrained": FILE}
    assert not missing_start(config_of())


@pytest.mark.parametrize(
    ("keys", "files"),
    [
        ({"pretrained": "none"}, {}),
        ({"pretrained": "own.pdparams"}, {"pretrained": "own.pdparams"}),
        ({"model": {"type": "X", "pretrained": "m.pdparams"}}, {"model.pretrained": "m.pdparams"}),
        ({"model": {"type": "X", "backbone": {"type": "Y", "pretrained": "none"}}}, {}),
    ],
)
def test_what_is_given_comes_before_the_recipe(keys: dict, files: dict[str, str]) -> None:
    _make_the_file()
    config = config_of(**keys)
    assert files_to_start_from(config) == files
    assert not missing_start(config)
    assert starting_weights(config) is None


def test_archives_pages_and_files_that_need_no_import_have_their_commands() -> None:
    def commands(**changes: Any) -> list[str]:
        wanted = starting_weights(config_of(starting_weights=WEIGHTS | changes))
        assert wanted is not None
        return wanted.commands()

    archive = commands(url="https://a.b/x.tar.gz", download="x/model.pdparams", generation="g")
    assert archive[0] == "curl -LO https://a.b/x.tar.gz && tar xzf x.tar.gz"
    assert "--from torchvision --generation g --weights x/model.pdparams " in archive[1]
    page = commands(url="https://a.b/view", download="x.pth")
    assert page[0] == "download x.pth from https://a.b/view"
    assert commands(system=None, download="x") == [
        f"curl -L --create-dirs -o {FILE} https://a.b/models/resnet18-5c.pth"
    ]


def test_a_wrong_section_is_refused() -> None:
    with pytest.raises(UsageError, match=r"starting_weights: .*'fil'.*file"):
        missing_start(config_of(starting_weights={"fil": "x"}))
    assert starting_weights(config_of(starting_weights={})) is None
