"""Data sets: which samples there are, and one sample as the network's training sees it.

Plain Python, without Paddle: the training loop wraps them. Image and label are paired by their
names, never by position, and what has no partner is listed before anything runs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.files import located
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, decode_label, generic_table
from paddleseg_ext.images.samples import Sample, read_sample_list

Transform = Callable[[dict[str, Any]], dict[str, Any]]


class SegmentationDataset:
    """Samples with a class table; what every data set here is.

    Attributes:
        samples: all of them, in a fixed order.
        class_table: names, colours and the lookup of the raw label values.
        num_classes: of the class table.
        ignore_index: of the class table.
        mode: which part of the data set it is ("train").
    """

    mode: str

    def __init__(
        self, samples: list[Sample], class_table: ClassTable, transforms: Sequence[Transform]
    ):
        self.samples = samples
        self.class_table = class_table
        self.num_classes = class_table.num_classes
        self.ignore_index = class_table.ignore_index
        self.transforms = list(transforms)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Read a sample and pass it through the transforms.

        Returns:
            `img` (3, H, W) float32; `label` (H, W) int64 where there is one, transformed with the
            image; and what the transforms listed in `gt_fields`.

        Raises:
            DataError: the image or its label cannot be used, or their sizes differ.
        """
        data: dict[str, Any] = {"trans_info": [], "gt_fields": []}
        data["img"], label = self.read(index)
        if label is not None:
            data["label"] = label
            data["gt_fields"].append("label")
        for transform in self.transforms:
            data = transform(data)
        result = {key: np.ascontiguousarray(data[key]) for key in data["gt_fields"]}
        if label is not None:
            result["label"] = result["label"].astype(np.int64)
        # (H, W, 3) -> (3, H, W)
        result["img"] = np.ascontiguousarray(data["img"].transpose(2, 0, 1), np.float32)
        return result

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The image (H, W, 3) uint8 and label (H, W) uint8 of a sample, before the transforms."""
        sample = self.samples[index]
        image = read_image(sample.image)
        if sample.label is None:
            return image, None
        label = decode_label(sample.label, self.class_table)
        check_same_size(sample, image, label)
        return image, label


def check_same_size(sample: Sample, image: np.ndarray, label: np.ndarray) -> None:
    """Raise `DataError` where image and label differ in size."""
    if image.shape[:2] != label.shape:
        raise DataError(
            f"{sample.label}: {label.shape[1]}x{label.shape[0]} pixels, but its image "
            f"'{sample.image}' has {image.shape[1]}x{image.shape[0]}"
        )


def listed_problems(title: str, problems: Sequence[str]) -> str:
    """One message for many problems, all of them: who mends files wants to mend them once."""
    return "\n  ".join([title, *problems])


def require_mode(mode: str, known: Sequence[str]) -> str:
    """`mode` if it is one of `known`; else a `UsageError`."""
    if mode not in known:
        raise UsageError(f"mode: one of {', '.join(known)} is expected, got '{mode}'")
    return mode


class Cityscapes(SegmentationDataset):
    """Cityscapes (https://www.cityscapes-dataset.com) in its publisher's layout.

    `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and
    `gtFine/SPLIT/CITY/NAME_gtFine_{labelTrainIds,labelIds}.png`. Either kind of label serves.
    """

    CLASS_TABLE: ClassVar[ClassTable] = CITYSCAPES
    LAYOUT: ClassVar[str] = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/..."
    IMAGE_SUFFIX: ClassVar[str] = "_leftImg8bit.png"
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": ("train",),
        "val": ("val",),
        "test": ("test",),
        "trainval": ("train", "val"),
    }
    LABEL_KINDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "auto": ("labelTrainIds", "labelIds"),
        "labelTrainIds": ("labelTrainIds",),
        "labelIds": ("labelIds",),
    }

    def __init__(
        self,
        dataset_root: str,
        transforms: Sequence[Transform] = (),
        mode: str = "train",
        label_kind: str = "auto",
    ):
        """
        Args:
            dataset_root: the folder that holds `leftImg8bit` and `gtFine`.
            mode: train, val, test (labels are optional) or trainval.
            label_kind: labelTrainIds, labelIds, or auto: the first of these that is there.

        Raises:
            UsageError: no such folder, no images, or images and labels without their partner,
                all of them listed.
        """
        self.mode = require_mode(mode, tuple(self.SPLITS))
        if label_kind not in self.LABEL_KINDS:
            raise UsageError(
                f"label_kind: one of {', '.join(self.LABEL_KINDS)} is expected, got '{label_kind}'"
            )
        root = Path(dataset_root)
        if not (root / "leftImg8bit").is_dir():
            raise UsageError(
                f"dataset_root: no Cityscapes in {located(root)}; expected: {self.LAYOUT}; "
                "download it from https://www.cityscapes-dataset.com, or make the embedded data "
                f"set: paddleseg-ext data synthetic --save_dir {root}"
            )
        samples: list[Sample] = []
        problems: list[str] = []
        for split in self.SPLITS[mode]:
            found, lonely = self._pair(root, split, self.LABEL_KINDS[label_kind])
            samples += found
            problems += lonely
        if problems:
            raise UsageError(
                listed_problems(
                    f"{root}: {len(problems)} files without their partner:", sorted(problems)
                )
            )
        if not samples:
            raise UsageError(f"{root}: no image in leftImg8bit/{mode} (expected: {self.LAYOUT})")
        super().__init__(samples, CITYSCAPES, transforms)

    def _pair(self, root: Path, split: str, kinds: Sequence[str]) -> tuple[list[Sample], list[str]]:
        """The samples of a split, and a line for every file without a partner."""
        images = {
            (file.parent.name, file.name.removesuffix(self.IMAGE_SUFFIX)): file
            for file in (root / "leftImg8bit" / split).glob(f"*/*{self.IMAGE_SUFFIX}")
        }
        labels: dict[tuple[str, str], Path] = {}
        for kind in reversed(kinds):  # so that the preferred kind is written last
            suffix = f"_gtFine_{kind}.png"
            for file in (root / "gtFine" / split).glob(f"*/*{suffix}"):
                labels[file.parent.name, file.name.removesuffix(suffix)] = file
        samples = [
            Sample(image, labels.get(key), f"{key[0]}/{image.stem}")
            for key, image in sorted(images.items())
        ]
        problems = [f"{labels[key]}: no image" for key in labels.keys() - images.keys()]
        if split != "test":
            expected = " or ".join(f"_gtFine_{kind}.png" for kind in kinds)
            problems += [
                f"{sample.image}: no label ({expected})"
                for sample in samples
                if sample.label is None
            ]
        return samples, problems


class ListDataset(SegmentationDataset):
    """Any images and labels, named by lists; the arguments of PaddleSeg's `Dataset`."""

    def __init__(
        self,
        dataset_root: str,
        num_classes: int,
        transforms: Sequence[Transform] = (),
        mode: str = "train",
        train_path: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        separator: str | None = None,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
    ):
        """
        Args:
            dataset_root: what the names in the lists are relative to.
            mode: train, val or test; which of the lists is read.
            train_path: a list of `image label` lines; as named, or below `dataset_root`.
            separator: None: a tab or comma where the line has one, else white space.
            ignore_index: the value in the label files that is ignored; it reads as 255.
            class_names: as many as `num_classes`.

        Raises:
            UsageError: no list for the mode, a line that is not a pair, or no label where one is
                needed; all such are listed.
        """
        self.mode = require_mode(mode, ("train", "val", "test"))
        paths = {"train": train_path, "val": val_path, "test": test_path}
        path = paths[mode]
        if path is None:
            others = [other for other, given in paths.items() if given is not None]
            meant = f"; to read {others[0]}_path, set mode: {others[0]}" if others else ""
            raise UsageError(
                f"{mode}_path: the list of the samples is expected for mode '{mode}'{meant}"
            )
        root = Path(dataset_root)
        if not root.is_dir():
            raise UsageError(f"dataset_root: {located(root)} is not a folder")
        inside = root / path
        table = generic_table(num_classes, class_names, ignore_index, name=root.name)
        samples = read_sample_list(inside if inside.exists() else path, root, separator)
        unlabelled = [str(sample.image) for sample in samples if sample.label is None]
        if unlabelled and mode != "test":
            raise UsageError(
                listed_problems(f"{path}: {len(unlabelled)} images without a label:", unlabelled)
            )
        super().__init__(samples, table, transforms)
