"""MODEL_CARD.md, as export writes it."""

from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.export.model_card import write_card
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, read_bundle, write_deploy_yaml
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.model_card import CARD_FILE, YOURS
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.scoring.protocols import EvaluationRule

SCORES: dict[str, Any] = {
    "num_images": 500,
    "absent": "skip",
    "protocol": "whole image",
    "class_names": ["road", "a|b"],
    "scores": {"mean_iou": 0.75, "accuracy": 0.9, "class_iou": [0.75, None]},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    (folder / "model.pdiparams").write_bytes(b"weights")
    manifest = Manifest(
        network="BiSeNetV1",
        class_table=generic_table(2),
        checkpoint={
            "path": "somewhere/private/model.pdparams",
            "sha256": "ab" * 32,
            "iteration": 4,
        },
        variables_loaded=7,
        variables_total=7,
        versions={"paddle": "3.2.2"},
        verified={"paddle": Verified("identical", True, num_images=4, command="export")},
        cost={"parameters": 13_000_000, "multiply_adds": 10**9, "input_shape": [1, 3, 64, 96]},
        evaluation=EvaluationRule("whole"),
    )
    transforms = [{"type": "Normalize", "mean": [0.5, 0.5, 0.5]}]
    write_deploy_yaml(folder, transforms, [-1, 3, 64, 96], "none", manifest)
    return read_bundle(folder)


def card_of(bundle: Bundle, scores: Any, earlier: Path) -> str:
    write_card(bundle, CheckpointManifest(scores=scores), "Cityscapes", earlier)
    return (bundle.deploy_file.parent / CARD_FILE).read_text()


def test_a_card_has_all_that_is_known(bundle: Bundle, tmp_path: Path) -> None:
    text = card_of(bundle, SCORES, tmp_path)
    for part in (
        "# BiSeNetV1, 2 classes",
        f"model.pdparams, sha256 {'ab' * 32}",
        "7 of 7",
        "13.00 million",
        "1.00 billion at 1x3x64x96",
        "Validation data: Cityscapes",
        "**mIoU 0.7500**; pixel accuracy 0.9000; 500 images; protocol whole image",
        "| road | 0.7500 |\n| a\\|b | - |",
        "- type: Normalize",
        "any x 3 x 64 x 96",
        "bilinear logits",
        "| paddle | identical | 4 | 0 |",
        "- Licence of the weights:",
    ):
        assert part in text, part
    assert "private" not in text


@pytest.mark.parametrize("scores", [None, {}, {"scores": []}, {"scores": {"mean_iou": "high"}}])
def test_without_scores_it_says_how_to_measure_them(
    bundle: Bundle, tmp_path: Path, scores: Any
) -> None:
    assert "`paddleseg-ext val` measures them" in card_of(bundle, scores, tmp_path)


def test_what_people_wrote_in_an_earlier_card_stays(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(f"old\n{YOURS}Licence: CC-BY-4.0\n")
    text = card_of(bundle, SCORES, tmp_path)
    assert text.endswith(f"{YOURS}Licence: CC-BY-4.0\n") and "old" not in text
