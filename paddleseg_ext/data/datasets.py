"""Data sets: lists of samples, read and transformed as the network's input in training.

Plain Python, without Paddle: the training loop wraps them. Image and label are paired by their
names, never by position, and files without their partner are listed before anything runs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paddleseg_ext.common.errors import (
    DataError,
    MissingData,
    UsageError,
    check_path,
    require_none,
)
from paddleseg_ext.common.files import located
from paddleseg_ext.common.options import from_section
from paddleseg_ext.data.edges import edge_map
from paddleseg_ext.images.functional import as_grey
from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, decode_label, generic_table
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.reading import read_image, turned_hint
from paddleseg_ext.images.samples import (
    FilePlaces,
    Pairs,
    Sample,
    pair_by_key,
    read_sample_list,
    samples_by_name,
)

Transform = Callable[[dict[str, Any]], dict[str, Any]]
IMAGE_SUFFIX = "_leftImg8bit.png"  # of Cityscapes
# Values of `mode` -> splits.
SPLITS = {
    "train": ("train",),
    "val": ("val",),
    "test": ("test",),
    "trainval": ("train", "val"),
}


class SegmentationDataset:
    """Base of the data sets: samples with a class table.

    Attributes:
        samples: in a fixed order.
        class_table: names, colours and the lookup of the raw label values.
        num_classes: of the class table.
        ignore_index: of the class table.
        mode: the part of the data set ("train").
        orientation: whether the orientation tag of images is applied.
        edge: whether items have an edge map of the label.
        img_channels: of the items' images, 3 or 1 (grey).
    """

    mode: str
    edge: bool = False
    img_channels: int = 3
    orientation: Orientation = "stored"

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
        """Read a sample and apply the transforms.

        Returns:
            `img` (`img_channels`, H, W) float32; `label` (H, W) int64 where the sample has one,
            transformed with the image; `edge` (1, H, W) uint8 where `edge` is set; and the arrays
            that transforms named in `gt_fields`.

        Raises:
            DataError: the image or its label cannot be used, or their sizes differ.
        """
        pairs = self.class_table.left_right
        data: dict[str, Any] = {"trans_info": [], "gt_fields": [], "left_right": pairs}
        data["img"], label = self.read(index)
        if self.img_channels == 1:
            data["img"] = as_grey(data["img"])
        if label is not None:
            data["label"] = label
            data["gt_fields"].append("label")
        for transform in self.transforms:
            data = transform(data)
        result = {key: np.ascontiguousarray(data[key]) for key in data["gt_fields"]}
        if label is not None:
            result["label"] = result["label"].astype(np.int64)
            if self.edge:
                result["edge"] = edge_map(result["label"], self.num_classes)
        # (H, W, 3) -> (3, H, W); of grey images the transforms saw three equal channels
        planes = data["img"].transpose(2, 0, 1)[: self.img_channels]
        result["img"] = np.ascontiguousarray(planes, np.float32)
        return result

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The image (H, W, 3) uint8 and label (H, W) uint8 of a sample, before the transforms."""
        return read_pair(self.samples[index], self.class_table, self.orientation)


def read_pair(
    sample: Sample, table: ClassTable, orientation: Orientation = "stored"
) -> tuple[np.ndarray, np.ndarray | None]:
    """The image (H, W, 3) uint8 of a sample, and its label (H, W) uint8 as classes, if any.

    Args:
        orientation: `upright` applies the orientation tag of the image.

    Raises:
        DataError: a file cannot be used, or the two differ in size.
    """
    image = read_image(sample.image, orientation)
    if sample.label is None:
        return image, None
    label = decode_label(sample.label, table)
    if image.shape[:2] != label.shape:
        raise DataError(
            f"{sample.label}: {label.shape[1]}x{label.shape[0]} pixels, but its image "
            f"'{sample.image}' has {image.shape[1]}x{image.shape[0]}"
            f"{turned_hint(sample.image, image.shape[:2], label.shape)}"
        )
    return image, label


def require_mode(mode: str, known: Sequence[str]) -> str:
    """`mode`, if it is one of `known`; raises `UsageError` if not."""
    if mode not in known:
        raise UsageError(f"mode: one of {', '.join(known)} is expected, got '{mode}'")
    return mode


class SplitDataset(SegmentationDataset):
    """A data set whose files lie in folders by split."""

    CLASS_TABLE: ClassVar[ClassTable]
    LAYOUT: ClassVar[str] = "images/SPLIT/* and labels/SPLIT/*.png"
    PROBLEMS: ClassVar[str] = "files without their partner"
    REFUSAL: ClassVar[type[UsageError]] = MissingData

    def __init__(
        self, dataset_root: str, transforms: Sequence[Transform] = (), mode: str = "train"
    ):
        """
        Args:
            dataset_root: the folder of the data set.
            mode: train, val, test or trainval.

        Raises:
            MissingData: no such folder, no images of the split, or files without their partner;
                all of these are listed.
        """
        self.mode = require_mode(mode, tuple(SPLITS))
        root = Path(dataset_root)
        samples: list[Sample] = []
        problems: list[str] = []
        for split in SPLITS[mode]:
            found, lonely = self._pair(root, split)
            samples += found
            problems += lonely
        title = f"{root}: {len(problems)} {self.PROBLEMS}:"
        require_none(sorted(problems), title, self.REFUSAL)
        if not samples:
            raise MissingData(f"{root}: no image of mode '{mode}' (expected: {self.LAYOUT})")
        super().__init__(samples, self.CLASS_TABLE, transforms)

    def _pair(self, root: Path, split: str) -> tuple[list[Sample], list[str]]:
        """The samples of a split, and one line per problem."""
        raise NotImplementedError


LABEL_IDS_FIRST = "labelIds_first"


class Cityscapes(SplitDataset):
    """Cityscapes (https://www.cityscapes-dataset.com) in its publisher's layout.

    `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and
    `gtFine/SPLIT/CITY/NAME_gtFine_{labelTrainIds,labelIds}.png`. One kind of label is enough.
    """

    CLASS_TABLE: ClassVar[ClassTable] = CITYSCAPES
    LAYOUT: ClassVar[str] = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/..."
    LABEL_KINDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "auto": ("labelTrainIds", "labelIds"),
        "labelTrainIds": ("labelTrainIds",),
        "labelIds": ("labelIds",),
        LABEL_IDS_FIRST: ("labelIds", "labelTrainIds"),
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
            dataset_root: the folder with `leftImg8bit` and `gtFine`.
            mode: train, val, test (labels are optional) or trainval.
            label_kind: labelTrainIds, labelIds, or auto: the first of these that exists.
                labelIds_first: labelIds where it exists, else labelTrainIds.

        Raises:
            MissingData: as `SplitDataset`.
        """
        if label_kind not in self.LABEL_KINDS:
            raise UsageError(
                f"label_kind: one of {', '.join(self.LABEL_KINDS)} is expected, got '{label_kind}'"
            )
        self._suffixes = [f"_gtFine_{kind}.png" for kind in self.LABEL_KINDS[label_kind]]
        super().__init__(dataset_root, transforms, mode)

    def _pair(self, root: Path, split: str) -> tuple[list[Sample], list[str]]:
        if not (root / "leftImg8bit").is_dir():
            raise MissingData(
                f"dataset_root: no Cityscapes in {located(root)}; expected: {self.LAYOUT}; "
                "download it from https://www.cityscapes-dataset.com, or make the embedded data "
                f"set: paddleseg-ext data synthetic --save_dir {root}"
            )
        pairs = pair_cityscapes(root, split, self._suffixes)
        samples = [
            Sample(image, label, f"{city}/{image.stem}") for (city, _), image, label in pairs.found
        ]
        wanted = f"label ({' or '.join(self._suffixes)})"
        return samples, pairs.problems(wanted, required=split != "test")


def pair_cityscapes(
    root: Path, split: str, label_suffixes: Sequence[str]
) -> Pairs[tuple[str, str]]:
    """Pair the images and labels of a split in Cityscapes' layout, by (city, name) in order.

    Args:
        label_suffixes: ends of the labels' names; of several labels of an image the first one's
            is taken.
    """
    images = {
        (file.parent.name, file.name.removesuffix(IMAGE_SUFFIX)): file
        for file in (root / "leftImg8bit" / split).glob(f"*/*{IMAGE_SUFFIX}")
    }
    labels = {
        (file.parent.name, file.name.removesuffix(suffix)): file
        for suffix in reversed(label_suffixes)  # so that the preferred one is written last
        for file in (root / "gtFine" / split).glob(f"*/*{suffix}")
    }
    return pair_by_key(dict(sorted(images.items())), labels)


class ListDataset(SegmentationDataset):
    """Images and labels that lists name; the arguments are those of PaddleSeg's `Dataset`."""

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
        left_right: list[list[str]] | None = None,
        files: dict[str, str] | None = None,
    ):
        """
        Args:
            dataset_root: the folder that names in the lists are relative to.
            mode: train, val or test; chooses the list.
            train_path: a list of `image label` lines, below `dataset_root` or as named.
            separator: None takes a tab or comma where the line has one, else white space.
            ignore_index: the ignored value in the label files; it is read as 255.
            class_names: `num_classes` names.
            left_right: pairs of them that mirrored images exchange; by default those that differ
                in left and right only (l_eye and r_eye), [] for none.
            files: folders and suffixes, see `FilePlaces`; lists then hold names without suffix, and
                without a list all images of the folder are taken.

        Raises:
            MissingData: the folder or the list does not exist, or a file of `files:`.
            UsageError: no list for the mode, lines that are no pairs, or images without a label
                in train and val; all of these are listed.
        """
        self.mode = require_mode(mode, ("train", "val", "test"))
        paths = {"train": train_path, "val": val_path, "test": test_path}
        path = paths[mode]
        for key, place in (("dataset_root", dataset_root), (f"{mode}_path", path)):
            if place is not None:
                check_path(key, place)
        if path is None and files is None:
            others = [other for other, given in paths.items() if given is not None]
            meant = f"; to read {others[0]}_path, set mode: {others[0]}" if others else ""
            raise UsageError(
                f"{mode}_path: the list of the samples is expected for mode '{mode}'{meant}"
            )
        root = Path(dataset_root)
        if not root.is_dir():
            raise MissingData(f"dataset_root: {located(root)} is not a folder")
        name = root.name or root.resolve().name
        table = generic_table(num_classes, class_names, ignore_index, name, left_right)
        inside = None if path is None else root / path
        listed = inside if inside is not None and inside.exists() else path
        if files is not None:
            places = from_section(FilePlaces, files, "files")
            samples = samples_by_name(root, places, listed, mode != "test")
        else:
            samples = read_sample_list(str(listed), root, separator)
        unlabelled = [str(sample.image) for sample in samples if sample.label is None]
        if mode != "test":
            require_none(unlabelled, f"{path}: {len(unlabelled)} images without a label:")
        super().__init__(samples, table, transforms)
