"""Every recipe's header has its published figure, its protocol and the file that it starts from."""

from pathlib import Path

import pytest

from paddleseg_ext.config import load_config
from paddleseg_ext.evaluation.protocol_choice import rules_of
from paddleseg_ext.models.starting_weights import starting_weights
from paddleseg_ext.published.systems import find_generation
from paddleseg_ext.registry import BACKBONES
from paddleseg_ext.training.initialization import NAMES

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FILES = sorted(p for p in CONFIGS.glob("*/*.yml") if p.parent.name != "_base_")
EACH = pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])


def header_of(path: Path) -> str:
    """The comment before the first key, as one line."""
    lines = path.read_text().partition("\n_base_:")[0].splitlines()
    text = " ".join(line.removeprefix("#").strip() for line in lines)
    return text.replace(" \\ ", " ")


@EACH
def test_the_header_has_a_published_figure_or_says_that_there_is_none(path: Path) -> None:
    header = header_of(path)
    has_figure = "ublishe" in header and "mIoU" in header
    assert has_figure or "o result is published" in header or "Published: 107 images" in header


@EACH
def test_the_header_names_the_protocol_of_the_configuration(path: Path) -> None:
    config = load_config(path)
    rules = list(rules_of(config).values())
    stated = header_of(path).partition("Protocol: ")[2]
    assert stated, "the header has no 'Protocol: NAME'"
    assert stated.split()[0].rstrip(";,.") == rules[0].protocol
    assert all(rule.protocol in stated for rule in rules)
    # val, predict and the bundle go by test_config, training by keep_best: the same.
    assert config.test_config.get("protocol", "whole") == rules[0].protocol
    if rules[0].absent_class != "skip":
        assert f"absent classes {rules[0].absent_class}" in stated


@EACH
def test_the_header_has_the_commands_that_make_the_starting_weights(path: Path) -> None:
    config, header = load_config(path), header_of(path)
    wanted = starting_weights(config)
    if wanted is None:
        assert "rom scratch" in header or "model.backbone.pretrained=" in header
        return
    for command in wanted.commands():
        if command.startswith("download "):  # from a page with a button
            command = command.removeprefix("download ").replace(" from ", " of ")
        assert command in header
    for each in (wanted.file, wanted.url, wanted.sha256 or ""):
        assert each in header


@EACH
def test_the_starting_weights_are_of_a_layout_for_this_network(path: Path) -> None:
    config = load_config(path)
    wanted = starting_weights(config)
    if wanted is None or wanted.system is None:
        return
    backbone = config.model.get("backbone", {}).get("type")
    assert backbone is None or BACKBONES.is_ours(backbone)
    if wanted.generation is not None:
        layout = find_generation(wanted.system, wanted.generation)
        assert layout.model["backbone"]["type"] == backbone
    assert config.initialization in NAMES


def test_the_recipes_of_each_author_score_as_he_does() -> None:
    def rule(name: str) -> tuple[str, str, str | None]:
        config = load_config(name)
        first = next(iter(rules_of(config).values()))
        return first.protocol, first.absent_class, config.val_dataset.get("label_kind")

    coincheung = ("ss", "smooth", "labelIds_first")
    assert rule("bisenetv1_coincheung_cityscapes_1024x1024_80k") == coincheung
    assert rule("bisenetv2_coincheung_cityscapes_1024x512_150k") == coincheung
    assert rule("stdc2_seg_cityscapes_1024x512_60k") == ("scale_0.75", "skip", "labelIds_first")
    both = rules_of(load_config("stdc1_seg_cityscapes_1024x512_60k"))
    assert list(both) == ["scale_0.75", "scale_0.5"]
    assert rule("bisenetv1_torchseg_cityscapes_1024x1024_80k")[0] == "torchseg"
    assert rule("dabnet_r18_cityscapes_1024x1024_80k")[0] == "mmseg_whole"
    assert rule("bisenetv2_tf2_cityscapes_1024x512_168k")[0] == "half_resize"
