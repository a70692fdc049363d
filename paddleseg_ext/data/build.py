"""Data sets, ours or PaddleSeg's, from the sections of a yml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import MissingData, UsageError, shown
from paddleseg_ext.config import Config
from paddleseg_ext.data.datasets import ListDataset
from paddleseg_ext.data.packed import PackedDataset, is_packed, settings_of
from paddleseg_ext.data.published import ADE20K_LOOKUP, ADE20K_TABLE
from paddleseg_ext.data.transforms import RandomHorizontalFlip
from paddleseg_ext.images.labels import CITYSCAPES, IGNORE_INDEX, ClassTable, generic_table
from paddleseg_ext.images.samples import Sample, unique_names
from paddleseg_ext.registry import DATASETS, TRANSFORMS, build

# How PaddleSeg's Cityscapes and COCO-Stuff report an absent folder, as a ValueError.
PADDLESEGS_MISSING = "The dataset is not Found"


class PaddleSegDataset:
    """A data set of PaddleSeg's with the attributes of ours; the items are its own."""

    def __init__(self, dataset: Any):
        self._dataset = dataset
        images = [Path(entry[0]) for entry in dataset.file_list]
        labels = [Path(entry[1]) if entry[1] else None for entry in dataset.file_list]
        names = unique_names(images)
        self.samples = [Sample(*entry) for entry in zip(images, labels, names, strict=True)]
        self.class_table = _paddlesegs_table(
            type(dataset).__name__, dataset.num_classes, dataset.ignore_index
        )
        self.num_classes: int = dataset.num_classes
        self.ignore_index: int = dataset.ignore_index

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`img` (3, H, W) float32 and `label` (H, W) int64."""
        data = self._dataset[index]
        item = {key: np.ascontiguousarray(data[key]) for key in ("edge",) if key in data}
        item["img"] = np.ascontiguousarray(data["img"], np.float32)
        if data.get("label") is not None:
            item["label"] = np.ascontiguousarray(data["label"].squeeze(), np.int64)
        return item


def _paddlesegs_table(type_name: str, num_classes: int, ignore_index: int) -> ClassTable:
    """The classes in the label files of a data set of PaddleSeg's."""
    if type_name == "Cityscapes":
        return CITYSCAPES
    if type_name == "ADE20K":  # its files count from 1, its reader subtracts 1
        return replace(ADE20K_TABLE, label_lookup=ADE20K_LOOKUP, lookup_suffix="")
    return generic_table(num_classes, raw_ignore=ignore_index, name=type_name.lower())


def build_dataset(config: Config, section: str) -> Any:
    """The data set that `train_dataset:` or `val_dataset:` describes.

    Returns:
        An object with `samples`, `class_table`, `num_classes`, `ignore_index`, `transform_specs`
        (the list as written in the yml), `__len__` and `__getitem__`.

    Raises:
        MissingData: files or folders of the data set do not exist here.
        UsageError: the section is missing, or a key or value in it is wrong.
    """
    spec = config.section(section)
    specs = spec.get("transforms") or []
    if not isinstance(specs, list):
        raise UsageError(f"{section}.transforms: a list is expected, got {shown(specs)}")
    transforms = [
        build(TRANSFORMS, entry, f"{section}.transforms[{index}]", config.only_paddleseg)
        for index, entry in enumerate(specs)
    ]
    described: Mapping[str, Any] = {**spec, "transforms": transforms}
    try:
        dataset = _packed(spec, transforms, section) or build(
            DATASETS, described, section, config.only_paddleseg
        )
    except FileNotFoundError as error:  # of PaddleSeg's data sets
        raise MissingData(f"{section}: {error}") from None
    except UsageError as error:
        if PADDLESEGS_MISSING in str(error):
            raise MissingData(str(error)) from None
        raise
    if not hasattr(dataset, "samples"):
        dataset = PaddleSegDataset(dataset)
    _check_flips(dataset.class_table, transforms, section)
    dataset.transform_specs = specs
    return dataset


def _check_flips(table: ClassTable, transforms: Sequence[Any], section: str) -> None:
    """Refuse PaddleSeg's flip for classes that know left from right: it does not exchange them."""
    for index, transform in enumerate(transforms):
        kind = type(transform)
        is_flip = kind.__name__ == RandomHorizontalFlip.__name__
        if table.left_right and is_flip and kind is not RandomHorizontalFlip:
            left, right = (table.class_names[i] for i in table.left_right[0])
            raise UsageError(
                f"{section}.transforms[{index}]: PaddleSeg's {kind.__name__} does not exchange "
                f"'{left}' and '{right}' in mirrored samples; set type: {kind.__name__} (ours "
                "does), or left_right: [] in the data set to train without the exchange"
            )


def _packed(spec: Mapping[str, Any], transforms: list[Any], section: str) -> Any:
    """The packed copy in `dataset_root`; None where there is none.

    It is for training only: evaluation predicts from image files, as deployment does.
    """
    root, mode = spec.get("dataset_root"), spec.get("mode", "train")
    if section != "train_dataset" or not is_packed(root, mode):
        return None
    dataset = PackedDataset(str(root), transforms, mode)
    packed, wanted = dataset.index["settings"], settings_of(spec)
    if packed != wanted:
        raise UsageError(
            f"{section}: '{root}' was packed with {packed}, not with {wanted}; pack it anew"
        )
    return dataset


@dataclass(frozen=True)
class ValidationData:
    """The parts of `val_dataset:` that an export needs.

    Attributes:
        first_image: the first image that exists; None on a machine without the data.
    """

    class_table: ClassTable
    first_image: Path | None


def validation_data(config: Config) -> ValidationData:
    """Classes and first image of `val_dataset:`, also on a machine without the data.

    The configuration of a checkpoint's manifest names no data: its classes are the manifest's.

    Raises:
        UsageError: something in the section is wrong, or the number of classes is not known
            without the data.
    """
    if config.classes is not None and "dataset_root" not in config.raw.get("val_dataset", {}):
        return ValidationData(ClassTable.from_dict(config.classes, f"{config.path}: classes"), None)
    try:
        dataset = build_dataset(config, "val_dataset")
    except MissingData as error:
        return ValidationData(_table_without_data(config, error), None)
    images = (sample.image for sample in dataset.samples if sample.image.is_file())
    return ValidationData(dataset.class_table, next(images, None))


def class_table_of(config: Config) -> ClassTable:
    """The classes of `val_dataset:`; see `validation_data`."""
    return validation_data(config).class_table


def _table_without_data(config: Config, reason: MissingData) -> ClassTable:
    spec = config.val_dataset
    dataset_type: Any = DATASETS.find(spec["type"], config.only_paddleseg)
    if hasattr(dataset_type, "CLASS_TABLE"):
        return dataset_type.CLASS_TABLE.with_left_right(spec.get("left_right"))
    num_classes = (
        spec.get("num_classes")
        or getattr(dataset_type, "NUM_CLASSES", None)
        or config.model.get("num_classes")
    )
    if num_classes is None:
        raise UsageError(f"the number of classes is not known without the data: {reason}")
    ignore_index = spec.get("ignore_index", IGNORE_INDEX)
    if dataset_type is ListDataset:
        name = Path(str(spec.get("dataset_root") or "list")).name
        names, pairs = spec.get("class_names"), spec.get("left_right")
        return generic_table(num_classes, names, ignore_index, name, pairs)
    return _paddlesegs_table(dataset_type.__name__, num_classes, ignore_index)
