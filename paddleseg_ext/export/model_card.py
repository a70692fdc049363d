"""`MODEL_CARD.md` of a bundle: network, data, scores, preprocessing, verdicts, fields to fill in.

Source: the sections of Mitchell et al., Model Cards for Model Reporting, 2019,
https://arxiv.org/abs/1810.03993.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.common.files import write_text
from paddleseg_ext.common.version import __version__
from paddleseg_ext.inference.bundle import DEPLOY_FILE, Bundle
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.model_card import (
    CARD_FILE,
    VERDICTS,
    YOURS,
    cell,
    read_card,
    table,
    verdict_text,
)
from paddleseg_ext.inference.postprocess import RESIZE_BACK

_FIELDS = """
## To fill in before it is published

- Licence of the weights:
- Training data, its source and its licence:
- Starting weights (backbone), their source and their licence:
- Meant for, and not meant for:
- Known limits (places, weather, cameras, classes with few pixels):
- Contact:
"""


def write_card(
    bundle: Bundle, checkpoint: CheckpointManifest, data_set: str, earlier: Path
) -> None:
    """Writes the card of a bundle into its folder.

    Args:
        bundle: checked, with its verdicts.
        checkpoint: of its weights; the scores come from it.
        data_set: type of the validation data.
        earlier: folder of the bundle that this one replaces; what people wrote in its card stays.
    """
    assert bundle.manifest is not None
    manifest = bundle.manifest
    _, _, yours = read_card(earlier).partition(YOURS)
    parts = [
        f"# {cell(manifest.network)}, {manifest.class_table.num_classes} classes\n",
        f"Written by paddleseg_ext {__version__}. Programs read `{DEPLOY_FILE}` beside it.\n",
        "## Network\n",
        table(_network_rows(manifest), ("", "")),
        "## Data and scores\n",
        _data_text(manifest, data_set),
        _scores_text(checkpoint.scores or {}),
        "## Input and output\n",
        _input_text(bundle),
        "## Verdicts\n",
        "Every runtime was compared with the network, label map by label map.\n",
        f"{VERDICTS}\n{verdict_text(bundle.verified)}",
    ]
    text = "\n".join(part for part in parts if part) + f"\n{YOURS}{yours or _FIELDS}"
    write_text(bundle.deploy_file.parent / CARD_FILE, text)


def _network_rows(manifest: Manifest) -> list[tuple[object, ...]]:
    weights, cost = manifest.checkpoint, manifest.cost
    rows: list[tuple[object, ...]] = [
        ("network", manifest.network),
        ("weights", f"{Path(weights.get('path') or '?').name}, sha256 {weights.get('sha256')}"),
        ("iteration", weights.get("iteration")),
        ("tensors loaded", f"{manifest.variables_loaded} of {manifest.variables_total}"),
        ("made with", ", ".join(f"{name} {v}" for name, v in manifest.versions.items())),
    ]
    if cost.get("parameters"):
        rows.append(("parameters", f"{cost['parameters'] / 1e6:.2f} million"))
    if cost.get("multiply_adds"):
        size = "x".join(map(str, cost["input_shape"]))
        rows.append(("multiply-adds", f"{cost['multiply_adds'] / 1e9:.2f} billion at {size}"))
    return [row for row in rows if row[1] is not None]


def _data_text(manifest: Manifest, data_set: str) -> str:
    classes = manifest.class_table
    names = ", ".join(map(cell, classes.class_names))
    return (
        f"Validation data: {cell(data_set)}. Classes: {names}. "
        f"Ignored label value: {classes.ignore_index}.\n"
    )


def _scores_text(evaluation: Mapping[str, Any]) -> str:
    """The scores that the checkpoint's manifest has. It is not trusted: only numbers are taken."""
    scores = evaluation.get("scores")
    mean_iou = scores.get("mean_iou") if isinstance(scores, dict) else None
    if not isinstance(scores, dict) or not isinstance(mean_iou, float):
        return (
            "No scores are recorded with these weights: `paddleseg-ext val` measures them, and "
            "training with\n`--do_eval True` records them.\n"
        )
    accuracy = scores.get("accuracy")
    summary = [f"**mIoU {mean_iou:.4f}**"]
    summary += [f"pixel accuracy {accuracy:.4f}"] if isinstance(accuracy, float) else []
    summary.append(f"{cell(evaluation.get('num_images'))} images")
    summary.append(f"protocol {cell(evaluation.get('protocol'))}")
    summary.append(f"absent classes: {cell(evaluation.get('absent'))}")
    text = "; ".join(summary) + ". Measured while training.\n"
    names, values = evaluation.get("class_names"), scores.get("class_iou")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        return text
    numbers = [f"{value:.4f}" if isinstance(value, float) else "-" for value in values]
    return f"{text}\n{table(list(zip(names, numbers, strict=True)), ('class', 'IoU'))}"


def _input_text(bundle: Bundle) -> str:
    manifest = bundle.manifest
    assert manifest is not None
    steps = yaml.safe_dump(bundle.transforms, sort_keys=False) if bundle.transforms else "none\n"
    shape = " x ".join(
        "any" if side in (None, -1) else str(side) for side in bundle.input_shape or []
    )
    rule = manifest.evaluation.describe() if manifest.evaluation else "not recorded"
    return (
        f"Images are {manifest.color_order}, 0 to 255, read `{manifest.orientation}`. "
        f"These transforms make\nthe input, (N, 3, H, W) {bundle.input_dtype}, {shape}:\n\n"
        f"```yaml\n{steps}```\n\n"
        f"The graph's output (`--output_op {bundle.output_op}`) returns to the image's size as "
        f"{RESIZE_BACK[bundle.output_op]}.\nProtocol of its evaluation: {cell(rule)}.\n"
    )
