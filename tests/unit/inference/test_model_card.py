"""Model cards: their verdicts are those of deploy.yaml, and what people wrote stays."""

from pathlib import Path

import pytest

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import read_bundle, record_verified, write_deploy_yaml
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.model_card import (
    CARD_FILE,
    MOST_BYTES,
    VERDICTS,
    YOURS,
    rewrite_verdicts,
    verdict_text,
)
from paddleseg_ext.inference.verified import Verified

CARD = f"# X\n\n{VERDICTS}\nold\n\n{YOURS}Licence: CC-BY-4.0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.pdiparams").write_bytes(b"weights")
    (tmp_path / CARD_FILE).write_text(CARD)
    write_deploy_yaml(tmp_path, [], [-1, 3, -1, -1], "none", Manifest("X", generic_table(2)))
    return tmp_path


def test_the_card_follows_the_record(folder: Path) -> None:
    card = folder / CARD_FILE
    assert "No runtime was compared yet" in card.read_text() and "old" not in card.read_text()
    record = Verified("near-tie", True, 3, 8, "tune", "1.2", "a cpu", ratio=2.5)
    record_verified(read_bundle(folder), {"openvino": record})
    record_verified(read_bundle(folder), {"onnxruntime": Verified("failed", False)})
    text = card.read_text()
    assert "| openvino | near-tie | 8 | 3 | 2.50 on a cpu | tune 1.2 |" in text
    assert "| onnxruntime | **failed**: failed |" in text
    assert text.startswith("# X\n") and text.endswith(f"{YOURS}Licence: CC-BY-4.0\n")


def test_the_mean_iou_of_an_int8_graph_is_there() -> None:
    record = Verified("within-budget", True, mean_iou_before=0.75, mean_iou_after=0.74)
    assert "within-budget, mIoU 0.7500 -> 0.7400" in verdict_text({"openvino_int8": record})


def test_it_is_copied_with_the_bundle_and_may_be_changed(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    with (folder / CARD_FILE).open("a") as card:
        card.write("More.\n")
    bundle = read_bundle(folder)
    assert bundle.manifest is not None and CARD_FILE not in bundle.manifest.files
    assert folder / CARD_FILE in bundle.files
    (folder / CARD_FILE).unlink()
    assert folder / CARD_FILE not in read_bundle(folder).files
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"of somebody else", VERDICTS.encode(), b"\xff\xfe", b" " * (MOST_BYTES + 1)]
)
def test_a_card_without_the_markers_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD_FILE).write_bytes(content)
    rewrite_verdicts(tmp_path, {})
    assert (tmp_path / CARD_FILE).read_bytes() == content


def test_names_are_no_markup(folder: Path) -> None:
    text = verdict_text({"x": Verified("a|b<script>\n# c", True)})
    assert "a\\|b&lt;script> # c" in text
