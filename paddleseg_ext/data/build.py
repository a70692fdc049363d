"""Data sets, ours or PaddleSeg's, from the sections of a yml."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import MissingData, UsageError, check_path, shown
from paddleseg_ext.config import IMG_CHANNELS, Config
from paddleseg_ext.data.datasets import (
    LABEL_IDS_FIRST,
    Cityscapes,
    ListDataset,
    SegmentationDataset,
)
from paddleseg_ext.data.packed import PackedDataset, is_packed, settings_of
from paddleseg_ext.data.published import PUBLISHED_ADE20K_TABLE
from paddleseg_ext.data.transforms import RandomHorizontalFlip
from paddleseg_ext.images.class_section import ClassSection, apply_classes, read_class_section
from paddleseg_ext.images.functional import as_grey, check_channels
from paddleseg_ext.images.labels import (
    CITYSCAPES,
    IGNORE_INDEX,
    MAX_CLASSES,
    ClassTable,
    decode_label,
    generic_table,
)
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.images.samples import Sample, unique_names
from paddleseg_ext.registry import (
    DATASETS,
    PADDLESEG_PREFIX,
    TRANSFORMS,
    build,
    checked_factory,
    means_paddlesegs,
)

# How PaddleSeg's Cityscapes, COCO-Stuff and Pascal Context report absent files.
PADDLESEGS_MISSING = ("The dataset is not Found", "are not ready")
# Where the files come from of data sets whose modules in PaddleSeg have no `URL`.
ADDRESSES = {
    "CocoStuff": "https://github.com/nightrome/cocostuff",
    "PascalContext": "https://cs.stanford.edu/~roozbeh/pascal-context",
    "PPHumanSeg14K": "https://github.com/PaddlePaddle/PaddleSeg/tree/release/2.8/contrib/PP-HumanSeg",
}
# Where most of its data sets read; those that read elsewhere do not hand labels to transforms.
PADDLESEGS_READER = "paddleseg.datasets.dataset"


# Values in the label files of persons, in data sets whose readers make classes of them.
PERSON_VALUES = {"EG1800": slice(1, 2), "SUPERVISELY": slice(1, 256)}
EDGE = "edge"  # key of any data set: whether items have an edge map of the label
LISTED_TYPES = ("ListDataset", "Dataset")  # their classes are the section's


class _FilesReadHere:
    """PaddleSeg's `Compose` on files that our reader has read.

    Its own reading applies the orientation tag, multiplies alpha into TIFFs and takes labels of 2
    and 4 bits for larger ones; evaluation and deployment would see other pixels.
    """

    def __init__(self, compose: Any, dataset: "PaddleSegDataset"):
        self._compose = compose
        self._dataset = dataset

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Source: PaddleSeg 2.8 `Compose`: float32, BGR; labels as stored."""
        if isinstance(data["img"], str):
            image = read_image(data["img"], self._dataset.orientation)
            if self._dataset.img_channels == 1:
                image = as_grey(image)
            data["img"] = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.float32)
        if isinstance(data.get("label"), str):
            data["label"] = read_label(data["label"])
        return self._compose(data)


class _OpenCvReadingHere:
    """OpenCV with our reader, for modules of PaddleSeg's whose data sets read files themselves."""

    def __init__(self, dataset: "PaddleSegDataset"):
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(cv2, name)

    def imread(self, path: str, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
        """A label as stored where `flags` asks for grey, else an image in BGR."""
        if flags == cv2.IMREAD_GRAYSCALE:
            return read_label(path).copy()
        return cv2.cvtColor(read_image(path, self._dataset.orientation), cv2.COLOR_RGB2BGR)


class PaddleSegDataset:
    """A data set of PaddleSeg's with the attributes of ours; the items are its own."""

    orientation: Orientation = "stored"
    img_channels: int = 3

    def __init__(self, dataset: Any):
        self._dataset = dataset
        if isinstance(getattr(dataset.transforms, "img_channels", None), int):
            dataset.transforms = _FilesReadHere(dataset.transforms, self)
        module: Any = sys.modules[type(dataset).__getitem__.__module__]
        if module.__name__ != PADDLESEGS_READER and hasattr(module, "cv2"):
            module.cv2 = _OpenCvReadingHere(self)
        images = [Path(entry[0]) for entry in dataset.file_list]
        labels = [Path(entry[1]) if entry[1] else None for entry in dataset.file_list]
        names = unique_names(images)
        self.samples = [Sample(*entry) for entry in zip(images, labels, names, strict=True)]
        self.class_table = _paddlesegs_table(
            type(dataset).__name__, dataset.num_classes, dataset.ignore_index
        )
        self.num_classes: int = dataset.num_classes
        self.ignore_index: int = dataset.ignore_index

    def read_labels_by(self, table: ClassTable, section: str) -> None:
        """Read labels as ours are read, by a class table, before PaddleSeg's transforms.

        Raises:
            UsageError: the data set reads its labels itself, as ADE20K and EG1800 do.
        """
        kind = type(self._dataset)
        if kind.__getitem__.__module__ != PADDLESEGS_READER:
            raise UsageError(
                f"{section}: classes: PaddleSeg's {kind.__name__} reads its labels itself; use a "
                "data set of ours of the same name, or a ListDataset"
            )
        self.class_table = table
        self._dataset.transforms = partial(_with_label, table, self._dataset.transforms)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`img` (`img_channels`, H, W) float32 and `label` (H, W) int64."""
        data = self._dataset[index]
        item = {key: np.ascontiguousarray(data[key]) for key in ("edge",) if key in data}
        item["img"] = np.ascontiguousarray(data["img"][: self.img_channels], np.float32)
        if data.get("label") is not None:
            label = np.ascontiguousarray(data["label"], np.int64)
            item["label"] = label.reshape(label.shape[-2:])  # some are (1, H, W)
        return item


def _with_label(table: ClassTable, transforms: Any, data: dict[str, Any]) -> dict[str, Any]:
    """PaddleSeg's transforms, of a label that is read by a class table."""
    if data.get("label") is not None:
        data["label"] = decode_label(data["label"], table)
    return transforms(data | {"left_right": table.left_right})


def _paddlesegs_table(type_name: str, num_classes: int, ignore_index: int) -> ClassTable:
    """The classes in the label files of a data set of PaddleSeg's."""
    if type_name == "Cityscapes":
        return CITYSCAPES
    if type_name == "ADE20K":  # its files count from 1, its reader subtracts 1
        return PUBLISHED_ADE20K_TABLE
    table = generic_table(num_classes, raw_ignore=ignore_index, name=type_name.lower())
    if type_name in PERSON_VALUES:
        lookup = np.zeros(256, np.uint8)
        lookup[PERSON_VALUES[type_name]] = 1
        table = replace(table, label_lookup=lookup, lookup_suffix="")
    return table


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
    channels = check_channels(config.img_channels, f"{section}: {IMG_CHANNELS}")
    _check_number_of_classes(config, spec, section)
    transforms = [
        build(TRANSFORMS, entry, f"{section}.transforms[{index}]", config.only_paddleseg)
        for index, entry in enumerate(specs)
    ]
    classes = _classes(spec, section)
    described = _described(config, transforms, classes, section)
    try:
        dataset = _packed(spec, transforms, section, config.orientation)
        if dataset is None:
            _check_paddlesegs(config, described, section)
            dataset = build(DATASETS, described, section, config.only_paddleseg)
    except FileNotFoundError as error:  # of PaddleSeg's data sets
        found = f"'{error.filename}' does not exist" if error.filename else str(error)
        raise MissingData(f"{section}: {found}{_remedy(described)}") from None
    except UsageError as error:
        if any(words in str(error) for words in PADDLESEGS_MISSING):
            raise MissingData(f"{error}{_remedy(described)}") from None
        raise
    if not hasattr(dataset, "samples"):
        dataset = PaddleSegDataset(dataset)
    if classes is not None and not isinstance(dataset, PackedDataset):  # packed as classes
        _set_table(dataset, _applied(classes, dataset.class_table, spec, section), section)
    if isinstance(dataset, SegmentationDataset):
        dataset.edge = spec.get(EDGE, False)
        if not isinstance(dataset.edge, bool):
            raise UsageError(f"{section}: edge: true or false expected, got {shown(dataset.edge)}")
    _check_flips(dataset.class_table, transforms, section)
    dataset.transform_specs = specs
    dataset.img_channels = channels
    dataset.orientation = config.orientation
    return dataset


def _check_number_of_classes(config: Config, spec: Mapping[str, Any], section: str) -> None:
    """Refuse a data set of PaddleSeg's whose classes do not fit into bytes: PSSL's 1001."""
    type_name = spec.get("type")
    if not isinstance(type_name, str) or DATASETS.is_ours(type_name, config.only_paddleseg):
        return
    number = getattr(DATASETS.find(type_name), "NUM_CLASSES", None)
    if isinstance(number, int) and number > MAX_CLASSES:
        raise UsageError(
            f"{section}: {type_name} has {number} classes, and labels here have at most "
            f"{MAX_CLASSES}: pretrain with PaddleSeg, and begin from its weights by 'pretrained'"
        )


def _check_paddlesegs(config: Config, spec: Mapping[str, Any], section: str) -> None:
    """Refuse a data set of PaddleSeg's that would be downloaded.

    Its constructors make the folder that `dataset_root` names and download into it.

    Raises:
        MissingData: a folder does not exist.
        UsageError: a folder's name is none.
    """
    type_name = spec.get("type")
    if not means_paddlesegs(DATASETS, spec, config.only_paddleseg):
        return
    if not isinstance(type_name, str):
        return  # `build` says so
    theirs = config.only_paddleseg or DATASETS.is_ours(type_name)
    factory = checked_factory(DATASETS, spec, section, theirs)
    for key in inspect.signature(factory).parameters:
        folder = spec.get(key)
        if not key.endswith("_root") or (folder is None and key != "dataset_root"):
            continue
        if folder is not None:
            check_path(f"{section}: {key}", folder)
        if not folder or not Path(folder).is_dir():
            found = f"there is no folder '{folder}'" if folder else f"'{key}' is missing"
            raise MissingData(f"{section}: {type_name}: {found}{_remedy(spec, key)}")


def _remedy(spec: Mapping[str, Any], what: str = "its paths") -> str:
    """The remedy where files of a data set of PaddleSeg's are absent."""
    type_name = str(spec.get("type")).removeprefix(PADDLESEG_PREFIX)
    factory = DATASETS.find(type_name, only_paddleseg=True)
    address = getattr(sys.modules[factory.__module__], "URL", None)
    if address:
        fetched = f"fetch {address} by hand and unpack it"
    elif type_name in ADDRESSES:
        fetched = f"fetch its files by hand as {ADDRESSES[type_name]} says"
    else:
        fetched = "fetch its files by hand"
    return f"; mend {what}, or {fetched} (nothing is downloaded here)"


def _classes(spec: Mapping[str, Any], section: str) -> ClassSection | None:
    """The `classes:` of a data set's section."""
    if spec.get("classes") is None:
        return None
    for key in ("class_names", "ignore_index", "left_right"):
        if key in spec:
            raise UsageError(f"{section}: '{key}' is a key of 'classes', too; give it there")
    root = Path(str(spec.get("dataset_root") or "."))
    return read_class_section(spec["classes"], root, f"{section}.classes")


def _described(
    config: Config, transforms: list[Any], classes: ClassSection | None, section: str
) -> dict[str, Any]:
    """The section as the data set's constructor takes it.

    `img_channels`, and of our data sets `edge`, are set afterwards.
    """
    spec = config.section(section)
    ours = ("classes", EDGE, IMG_CHANNELS)
    described = {key: value for key, value in spec.items() if key not in ours}
    if spec.get("label_kind") == LABEL_IDS_FIRST and spec.get("type") != Cityscapes.__name__:
        del described["label_kind"]  # a preference of a recipe whose data set is replaced
    theirs = means_paddlesegs(DATASETS, described, config.only_paddleseg)
    if EDGE in spec and theirs:
        described[EDGE] = spec[EDGE]
    if "transforms" in spec or not (theirs and _has_other_lists(spec)):
        described["transforms"] = transforms
    if classes is not None and spec.get("type", "").rpartition(".")[2] in LISTED_TYPES:
        names = _applied(classes, generic_table(1), spec, section, counted=True).class_names
        if described.setdefault("num_classes", len(names)) != len(names):
            raise UsageError(
                f"{section}: num_classes: {len(names)} expected, as classes has, got "
                f"{shown(spec['num_classes'])}"
            )
    return described


def _has_other_lists(spec: Mapping[str, Any]) -> bool:
    """Whether a data set of PaddleSeg's has transforms under other names, as EG1800 has."""
    if not isinstance(spec.get("type"), str) or not DATASETS.is_in_paddleseg(spec["type"]):
        return False
    factory = DATASETS.find(spec["type"], only_paddleseg=True)
    return "transforms" not in inspect.signature(factory).parameters


def _applied(
    classes: ClassSection,
    base: ClassTable,
    spec: Mapping[str, Any],
    section: str,
    counted: bool = False,
) -> ClassTable:
    """The class table that a section's `classes:` makes of the data set's own.

    Args:
        counted: the data set has no classes of its own; their number is that of the section.
    """
    if counted and classes.mapping is None:
        base = generic_table(len(classes.names or ()) or spec.get("num_classes", 1))
    kind = spec.get("label_kind", "auto")
    differ = "_labelIds" in base.lookup_suffix and base.label_lookup is not None
    is_ambiguous = differ and kind in ("auto", LABEL_IDS_FIRST)
    if differ and kind == "labelTrainIds":
        base = replace(base, label_lookup=None)
    return apply_classes(classes, base, f"{section}.classes", is_ambiguous)


def _set_table(dataset: Any, table: ClassTable, section: str) -> None:
    if isinstance(dataset, PaddleSegDataset):
        dataset.read_labels_by(table, section)
    dataset.class_table = table
    dataset.num_classes, dataset.ignore_index = table.num_classes, table.ignore_index


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


def _packed(
    spec: Mapping[str, Any], transforms: list[Any], section: str, orientation: Orientation
) -> Any:
    """The packed copy in `dataset_root`; None where there is none.

    It is for training only: evaluation predicts from image files, as deployment does.
    """
    root, mode = spec.get("dataset_root"), spec.get("mode", "train")
    if section != "train_dataset" or not is_packed(root, mode):
        return None
    dataset = PackedDataset(str(root), transforms, mode)
    packed, wanted = dataset.index["settings"], settings_of(spec, orientation)
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
    dataset_type: Any = DATASETS.find(
        spec["type"], means_paddlesegs(DATASETS, spec, config.only_paddleseg)
    )
    classes = _classes(spec, "val_dataset")
    if classes is not None:
        spec = _described(config, [], classes, "val_dataset")
    table = _own_table_without_data(config, spec, dataset_type, reason)
    return table if classes is None else _applied(classes, table, spec, "val_dataset")


def _own_table_without_data(
    config: Config, spec: Mapping[str, Any], dataset_type: Any, reason: MissingData
) -> ClassTable:
    """The classes that a data set has without a `classes:` section."""
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
