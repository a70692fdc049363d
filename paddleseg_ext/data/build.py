"""From a section of the yml to a data set, ours or PaddleSeg's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.data.datasets import ListDataset
from paddleseg_ext.data.packed import PackedDataset, is_packed, settings_of
from paddleseg_ext.data.published import ADE20K_LOOKUP, ADE20K_TABLE
from paddleseg_ext.images.labels import CITYSCAPES, IGNORE_INDEX, ClassTable, generic_table
from paddleseg_ext.images.samples import Sample, unique_names
from paddleseg_ext.registry import DATASETS, TRANSFORMS, build

SECTIONS = ("train_dataset", "val_dataset")


class PaddleSegDataset:
    """A data set of PaddleSeg with the attributes that ours have; items are its own."""

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
    """What the label files of a data set of PaddleSeg hold."""
    if type_name == "Cityscapes":
        return CITYSCAPES
    if type_name == "ADE20K":  # its files count from 1; it subtracts as it reads
        return replace(ADE20K_TABLE, label_lookup=ADE20K_LOOKUP, lookup_suffix="")
    return generic_table(num_classes, raw_ignore=ignore_index, name=type_name.lower())


def build_dataset(config: Config, section: str) -> Any:
    """The data set that `train_dataset:` or `val_dataset:` describes.

    Returns:
        An object with `samples`, `class_table`, `num_classes`, `ignore_index`, `transform_specs`
        (the list as written in the yml), `__len__` and `__getitem__`.

    Raises:
        UsageError: the section is missing, or something in it is wrong.
    """
    spec = getattr(config, section)
    if not spec:
        raise UsageError(f"{config.path}: no section '{section}:'")
    specs = spec.get("transforms") or []
    if not isinstance(specs, list):
        raise UsageError(f"{section}.transforms: a list is expected, got {specs!r}")
    transforms = [
        build(TRANSFORMS, entry, f"{section}.transforms[{index}]", config.only_paddleseg)
        for index, entry in enumerate(specs)
    ]
    described: Mapping[str, Any] = {**spec, "transforms": transforms}
    try:
        dataset = _packed(spec, transforms, section) or build(
            DATASETS, described, section, config.only_paddleseg
        )
    except FileNotFoundError as error:  # what PaddleSeg's data sets raise
        raise UsageError(f"{section}: {error}") from None
    if not hasattr(dataset, "samples"):
        dataset = PaddleSegDataset(dataset)
    dataset.transform_specs = specs
    return dataset


def _packed(spec: Mapping[str, Any], transforms: list[Any], section: str) -> Any:
    """The packed copy that `dataset_root` holds, or None where it holds none.

    Only training reads it: evaluation predicts from image files, as deployment does.
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


def class_table_of(config: Config) -> ClassTable:
    """The classes of `val_dataset:`, also on a machine that has no copy of the data.

    Raises:
        UsageError: neither the data nor a class count is there.
    """
    try:
        return build_dataset(config, "val_dataset").class_table
    except UsageError as error:
        reason = error
    spec = config.val_dataset
    if not isinstance(spec.get("type"), str):
        raise reason
    dataset_type: Any = DATASETS.find(spec["type"], config.only_paddleseg)
    if hasattr(dataset_type, "CLASS_TABLE"):
        return dataset_type.CLASS_TABLE
    num_classes = (
        spec.get("num_classes")
        or getattr(dataset_type, "NUM_CLASSES", None)
        or config.model.get("num_classes")
    )
    if num_classes is None:
        raise UsageError(f"the class count is not known without the data: {reason}")
    ignore_index = spec.get("ignore_index", IGNORE_INDEX)
    if dataset_type is ListDataset:
        name = Path(str(spec.get("dataset_root") or "list")).name
        return generic_table(num_classes, spec.get("class_names"), ignore_index, name)
    return _paddlesegs_table(dataset_type.__name__, num_classes, ignore_index)


def first_image(config: Config) -> Path | None:
    """The first validation image that is there, or None without the data."""
    try:
        samples = build_dataset(config, "val_dataset").samples
    except UsageError:
        return None
    return next((sample.image for sample in samples if sample.image.is_file()), None)
