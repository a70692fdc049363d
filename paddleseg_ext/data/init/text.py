"""The text of a yml with comments, for a data set and the recipe that fits it."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from paddleseg_ext.config import Config
from paddleseg_ext.data.init.recipe import RARE, Recipe
from paddleseg_ext.data.survey import Survey
from paddleseg_ext.images.orientation import UPRIGHT

# Losses that take `weight`.
WEIGHTED = ("CrossEntropyLoss", "OhemCrossEntropyLoss", "CoinCheungOhemLoss", "StdcOhemLoss")
WIDTH = 96

TEMPLATE = """\
{header}# dataset_root is relative to the working directory.
batch_size: {batch_size}
# About {epochs} passes over the training images.
iters: {iters}

{orientation}# Names, colours, and what label values mean.
{classes}
{datasets}optimizer:
  type: adam
  weight_decay: 1.0e-4

lr_scheduler:
  type: PolynomialDecay
  learning_rate: 1.0e-3
  end_lr: 0.0
  power: 0.9
{warmup}
# pretrained: FILE.pdparams takes all weights that fit, of a backbone or a network.
{model}
{loss}"""

TRAIN_HEADER = """\
# Written by `paddleseg-ext data init`. To check it, to train, and to begin with the weights of a
# trained network, which may have other classes:
#   paddleseg-ext data check --config {path}
#   paddleseg-ext train --config {path} --do_eval --save_interval {interval} \\
#       --save_dir output/{stem}
#   ... train ... --finetune FILE.pdparams --learning_rate 0.0002
"""

VAL_HEADER = """\
# Written by `paddleseg-ext data init`. All images are for validation, so a network is only scored:
#   paddleseg-ext data check --config {path}
#   paddleseg-ext val --config {path} --model_path FILE.pdparams
"""

WARMUP = """\
  # The rate rises during the warm-up, which must be shorter than the run.
  warmup_iters: {}
  warmup_start_lr: 1.0e-5
"""

DATASET = """\
{comment}{mode}_dataset:
  type: ListDataset
  dataset_root: {root}
  {mode}_path: {split}.list
  mode: {mode}
  transforms:
{transforms}
"""

NO_VALIDATION = """\
# No image is left for validation. These are the training images: their scores are not those of
# new images.
"""


def yml_text(
    path: Path,
    config: Config,
    recipe: Recipe,
    surveys: Mapping[str, Survey],
    classes: Mapping[str, Any],
) -> str:
    """The yml, with comments.

    Args:
        path: of the yml, beside the lists.
        config: whose network, losses and normalisation are taken.
        recipe: from `recipe_for`.
        surveys: "train" and "val", those that have a list.
        classes: the keys of `classes:`.
    """
    first = next(iter(surveys.values()))
    model = {key: value for key, value in config.model.items() if key != "num_classes"}
    header = TRAIN_HEADER if "train" in surveys else VAL_HEADER
    return TEMPLATE.format(
        header=header.format(
            path=shlex.quote(str(path)), stem=path.stem, interval=max(1, recipe.iters // 10)
        ),
        batch_size=recipe.batch_size,
        epochs=round(recipe.iters * recipe.batch_size / max(1, first.images)),
        iters=recipe.iters,
        orientation=_orientation(first),
        classes=_dumped({"classes": dict(classes)}),
        datasets=_datasets(path.parent, recipe, surveys, config),
        warmup=WARMUP.format(recipe.warmup_iters) if recipe.warmup_iters else "",
        model=_dumped({"model": model}),
        loss=_loss(config, recipe.weights),
    )


def _dumped(values: Any, indent: int = 0) -> str:
    """Yml lines of plain values, short lists in one line."""
    text = yaml.safe_dump(
        values, sort_keys=False, default_flow_style=None, allow_unicode=True, width=WIDTH
    )
    return "".join(" " * indent + line + "\n" for line in text.splitlines())


def _orientation(survey: Survey) -> str:
    turned = sum(survey.tags.values()) - survey.tags[UPRIGHT]
    if not turned and survey.part.orientation == "stored":
        return ""
    return (
        f"# {turned} images have an orientation tag. upright: labels were drawn on pictures as "
        f"viewers\n# show them.\norientation: {survey.part.orientation}\n\n"
    )


def _datasets(root: Path, recipe: Recipe, surveys: Mapping[str, Survey], config: Config) -> str:
    """`train_dataset:` and `val_dataset:`; without validation images the training images twice."""
    train, val = _transforms(recipe, _normalize(config))
    sections = []
    if "train" in surveys:
        sections.append(("train", "train", train, _statistics(surveys["train"])))
    if "val" in surveys:
        sections.append(("val", "val", val, _statistics(surveys["val"])))
    else:
        sections.append(("val", "train", val, NO_VALIDATION))
    place = yaml.safe_dump(str(root), allow_unicode=True, width=math.inf).splitlines()[0]
    return "".join(
        DATASET.format(mode=mode, split=split, transforms=specs, comment=comment, root=place)
        for mode, split, specs, comment in sections
    )


def _normalize(config: Config) -> dict[str, Any]:
    specs = config.raw.get("val_dataset", {}).get("transforms", [])
    return next((spec for spec in specs if spec.get("type") == "Normalize"), {"type": "Normalize"})


def _transforms(recipe: Recipe, normalize: Mapping[str, Any]) -> tuple[str, str]:
    """The transforms of training and of validation."""
    shrunk: list[dict[str, Any]] = []
    if recipe.fixed_wh is not None:
        shrunk = [{"type": "Resize", "target_size": list(recipe.fixed_wh)}]
    elif recipe.long_side is not None:
        shrunk = [{"type": "LimitLong", "max_long": recipe.long_side}]
    scales = {"min_scale_factor": 0.5, "max_scale_factor": 2.0, "scale_step_size": 0.25}
    ranges = {f"{what}_range": 0.4 for what in ("brightness", "contrast", "saturation")}
    augmented = [
        {"type": "ResizeStepScaling", **scales},
        {"type": "RandomPaddingCrop", "crop_size": list(recipe.crop_wh)},
        {"type": "RandomHorizontalFlip"},
        {"type": "RandomDistort", **ranges},
    ]
    last = [dict(normalize)]
    return _dumped([*shrunk, *augmented, *last], 4), _dumped([*shrunk, *last], 4)


def _statistics(survey: Survey) -> str:
    """Comments: sizes, mean and std, and the share of each class."""
    sizes = ", ".join(f"{size} ({n})" for size, n in survey.sizes.most_common(3))
    mean, std = (np.round(values, 3).tolist() for values in (survey.mean, survey.std))
    names = survey.part.class_table.class_names
    shares = [
        f"{name} {share:.2%}" if share else f"{name} never"
        for name, share in zip(names, survey.class_shares, strict=True)
    ]
    lines = [
        f"# {survey.images} images: {sizes}",
        f"# mean {mean}, std {std} (RGB, 0..1)",
        *_filled("Of the labelled pixels: ", shares),
    ]
    return "\n".join(lines) + "\n"


def _filled(title: str, words: list[str]) -> list[str]:
    """Words with commas between, in lines of comments."""
    lines, line = [], f"# {title}"
    for word in words:
        if len(line) + len(word) > WIDTH:
            lines.append(line.rstrip())
            line = "#   "
        line += f"{word}, "
    return [*lines, line.removesuffix(", ")]


def _loss(config: Config, weights: list[float] | None) -> str:
    """`loss:`, without numbers of pixels of another data set; weights are a suggestion."""
    types = [
        {key: value for key, value in entry.items() if key not in ("min_kept", "weight")}
        for entry in config.loss["types"]
    ]
    text = _dumped({"loss": {"types": types, "coef": config.loss["coef"]}})
    able = sorted({entry["type"] for entry in types} & set(WEIGHTED))
    if weights is None or not able:
        return text
    numbers = _filled("  weight: [", [f"{weight:g}" for weight in weights])
    numbers[-1] += "]"
    what = (
        f"# Some classes have less than {RARE:.0%} of the pixels. Factors for the classes, after "
    )
    return text + "\n".join(
        [f"{what}ENet's rule,", f"# are an argument of {', '.join(able)}:", *numbers, ""]
    )
