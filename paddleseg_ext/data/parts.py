"""Parts of a data set: training and validation samples from a yml, a folder or lists."""

import random
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import MissingData, UsageError, require_none
from paddleseg_ext.common.files import located
from paddleseg_ext.common.flags import natural_int, positive_float
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.images.class_section import apply_classes, read_class_section
from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, generic_table
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.samples import Sample, pair_by_stem, read_sample_list


def classes_of_file(path: str | Path, num_classes: int | None = None) -> ClassTable:
    """The class table of a yml, deploy.yaml or manifest with classes, or of a tool's colour table.

    Raises:
        UsageError: it cannot be read, or has another number of classes.
    """
    is_yml = Path(path).suffix in (".yml", ".yaml", ".json")
    section = read_class_section(path if is_yml else {"mapping": str(path)}, Path(), "--classes")
    own = len(section.names or ()) or num_classes or 1 if section.mapping is None else 1
    table = apply_classes(section, generic_table(own, name=Path(path).stem), str(path))
    if num_classes not in (None, table.num_classes):
        raise UsageError(f"--num_classes: {path} has {table.num_classes}, got {num_classes}")
    return table


@dataclass(frozen=True)
class Part:
    """Samples with their classes.

    Attributes:
        name: a section of a yml, a split, or the path of a list.
        orientation: whether the orientation tag of images is applied.
    """

    name: str
    samples: list[Sample]
    class_table: ClassTable
    orientation: Orientation = "stored"


@dataclass(frozen=True)
class SplitOptions(CheckedOptions):
    """A random division into training and validation."""

    val_share: float = option(0.1, "of --images, drawn with --seed", parse=positive_float)
    seed: int = option(0, "another draw", parse=natural_int)
    label_ending: str = option(
        "", "what labels have behind their image's name: _mask for f0.jpg and f0_mask.png"
    )


def parts_of_config(config: Config) -> list[Part]:
    """The data sets of a yml's `train_dataset:` and `val_dataset:`, whichever it has.

    Raises:
        UsageError: as `build_dataset`.
    """
    parts = []
    for section in ("train_dataset", "val_dataset"):
        if section in config.raw:
            dataset = build_dataset(config, section)
            table = dataset.class_table
            parts.append(Part(section, dataset.samples, table, config.orientation))
    return parts


def parts_of_cityscapes(root: str | Path) -> list[Part]:
    """The splits train and val of a folder in Cityscapes' layout.

    Raises:
        MissingData: as `Cityscapes`.
    """
    modes = ("train", "val")
    return [Part(mode, Cityscapes(str(root), mode=mode).samples, CITYSCAPES) for mode in modes]


def part_of_list(
    path: str | Path, num_classes: int | None = None, classes: str | Path | None = None
) -> Part:
    """The samples of a list of `image label` lines.

    Args:
        num_classes: of the labels; None takes Cityscapes' classes.
        classes: a yml with a `classes:` section, or a table that it may name (class_dict.csv).
    """
    table = generic_table(num_classes) if num_classes else CITYSCAPES
    if classes is not None:
        table = classes_of_file(classes, num_classes)
    return Part(str(path), read_sample_list(path), table)


def split_pairs(
    images: str | Path, labels: str | Path, options: SplitOptions
) -> dict[str, list[Sample]]:
    """Pair the images and labels of two folders by name, and divide them at random.

    Returns:
        The samples of "train" and "val", at least one each.

    Raises:
        MissingData: files without their partner, all of them listed.
        UsageError: no such folder, fewer than two images, or a share of 1 and more.
    """
    for flag, folder in (("--images", images), ("--labels", labels)):
        if not Path(folder).is_dir():
            raise UsageError(f"{flag}: {located(folder)} is not a folder")
    if options.val_share >= 1:
        raise UsageError(f"--val_share: below 1 expected, got {options.val_share}")
    ending = options.label_ending
    if not ending and Path(images).resolve() == Path(labels).resolve():
        raise UsageError(
            "--images and --labels are one folder: --label_ending says which files are labels, "
            "such as --label_ending _mask for f0.jpg and f0_mask.png"
        )
    samples, lonely = pair_by_stem(Path(images), Path(labels), "all", ending)
    hint = "" if ending else " (labels such as NAME_mask.png: give --label_ending _mask)"
    require_none(lonely, f"{len(lonely)} files without their partner{hint}:", MissingData)
    if len(samples) < 2:
        raise UsageError(f"--images: at least 2 images expected in '{images}'")
    count = min(max(1, round(len(samples) * options.val_share)), len(samples) - 1)
    chosen = set(random.Random(options.seed).sample(range(len(samples)), count))
    parts: dict[str, list[Sample]] = {"train": [], "val": []}
    for number, sample in enumerate(samples):
        parts["val" if number in chosen else "train"].append(sample)
    return parts
