"""A configuration is named by a path or by its name."""

from pathlib import Path

import pytest

from paddleseg_ext.common import shipped_configs as room
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.shipped_configs import describe_config, find_config, shipped_configs

NAME = "bisenetv1_cityscapes_1024x512_160k"
PROJECT = Path(__file__).resolve().parents[3]


def test_every_yml_has_a_name_of_its_own() -> None:
    files = [p for p in (PROJECT / "configs").glob("*/*.yml") if p.parent.name != "_base_"]
    assert sorted(shipped_configs().values()) == sorted(files)


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_configs()[NAME]
    assert find_config(NAME) == find_config(f"{NAME}.yml") == shipped
    Path(NAME).mkdir()  # a run's folder of that name hides nothing
    assert find_config(NAME) == shipped
    Path(f"{NAME}.yml").write_text("iters: 1")
    assert find_config(f"{NAME}.yml") == Path(f"{NAME}.yml")
    assert find_config(NAME) == shipped


@pytest.mark.parametrize("named", ["bisenetv1_citscapes", f"elsewhere/{NAME}.yml", "_base_"])
def test_an_unknown_name_names_the_nearest(named: str) -> None:
    with pytest.raises(UsageError, match=rf"'{named}' does not exist; the path .* nearest is '"):
        find_config(named)
    with pytest.raises(UsageError, match=f"nearest is '{NAME}'"):
        find_config(f"elsewhere/{NAME}.yml")


def test_an_installed_copy_is_used_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configs` beside an installed package belongs to somebody else."""
    package = tmp_path / "site-packages" / "paddleseg_ext"
    beside = tmp_path / "site-packages" / "configs" / "theirs"
    for folder in (package, beside):
        folder.mkdir(parents=True)
    (beside / "x.yml").write_text("iters: 1")
    monkeypatch.setattr(room, "PACKAGE", package)
    assert shipped_configs() == {}
    (package / "configs" / "ours").mkdir(parents=True)
    (package / "configs" / "ours" / "y.yml").write_text("iters: 1")
    assert list(shipped_configs()) == ["y"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# As in 2.8,\n# in two lines. More.\nmodel: {}", "As in 2.8, in two lines"),
        ("# As in 2020:\n#\n#   paddleseg-ext import", "As in 2020"),
        ("# As in 2020:\n#   paddleseg-ext import", "As in 2020"),
        ("model: {}", ""),
    ],
)  # fmt: skip
def test_the_first_sentence_describes(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "x.yml").write_text(text)
    assert describe_config(tmp_path / "x.yml") == expected


@pytest.mark.parametrize("path", shipped_configs().values(), ids=lambda p: p.stem)
def test_every_header_describes_and_says_what_paths_are_relative_to(path: Path) -> None:
    assert describe_config(path)
    assert "# dataset_root and lists are relative to the working directory.\n" in path.read_text()
