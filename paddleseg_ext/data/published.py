"""The published data sets besides Cityscapes: CamVid, ADE20K, COCO-Stuff and CelebAMask-HQ.

They are read in the layout that `paddleseg-ext data prepare` writes: `images/SPLIT/*`
and `labels/SPLIT/*.png`, which hold classes and 255 for ignored; CamVid also as it is shipped.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import located
from paddleseg_ext.data.datasets import (
    SegmentationDataset,
    Transform,
    listed_problems,
    require_mode,
)
from paddleseg_ext.images.class_names import (
    ADE20K_NAMES,
    CELEBA_MASK_NAMES,
    COCO_STUFF_NAMES,
)
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.labels import CAMVID, ClassTable, lookup_table, spread_palette
from paddleseg_ext.images.samples import Sample, read_sample_list

# In the publisher's files 0 is unlabelled and 1..150 are the classes.
ADE20K_LOOKUP = lookup_table({raw: raw - 1 for raw in range(1, 151)}, ignored={0})
ADE20K_TABLE = ClassTable("ade20k", ADE20K_NAMES, spread_palette(150))
COCO_STUFF_TABLE = ClassTable("coco_stuff", COCO_STUFF_NAMES, spread_palette(171))
CELEBA_MASK_TABLE = ClassTable("celeba_mask_hq", CELEBA_MASK_NAMES, spread_palette(19))

SPLITS = {
    "train": ("train",),
    "val": ("val",),
    "test": ("test",),
    "trainval": ("train", "val"),
}


def pair_by_stem(images: Path, labels: Path, split: str) -> tuple[list[Sample], list[str]]:
    """Samples whose image and label have one name, and a line for every file without partner."""
    found: dict[str, Path] = {}
    doubled = []
    # "[!.]": what a killed writer leaves, and macOS on disks of others, begins with a dot.
    for file in sorted(images.glob("[!.]*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            first = found.setdefault(file.stem, file)
            if first != file:
                doubled.append(f"{file}: its label is that of {first.name}")
    labelled = {file.stem: file for file in sorted(labels.glob("[!.]*.png"))}
    lonely = [f"{found[stem]}: no label" for stem in found.keys() - labelled.keys()]
    lonely += [f"{labelled[stem]}: no image" for stem in labelled.keys() - found.keys()]
    samples = [
        Sample(image, labelled.get(stem), f"{split}/{stem}") for stem, image in found.items()
    ]
    return samples, sorted(doubled + lonely)


class PreparedDataset(SegmentationDataset):
    """A data set in the layout that `data prepare` writes."""

    CLASS_TABLE: ClassVar[ClassTable]
    COMMAND: ClassVar[str]

    def __init__(
        self, dataset_root: str, transforms: Sequence[Transform] = (), mode: str = "train"
    ):
        """
        Args:
            dataset_root: the folder that holds `images` and `labels`.
            mode: train, val, test or trainval.

        Raises:
            UsageError: no such folder, no images of that split, or files without their partner.
        """
        self.mode = require_mode(mode, tuple(SPLITS))
        root = Path(dataset_root)
        samples: list[Sample] = []
        problems: list[str] = []
        for split in SPLITS[mode]:
            images, labels = root / "images" / split, root / "labels" / split
            if not images.is_dir():
                raise UsageError(
                    f"dataset_root: {located(images)} does not exist; make it from the publisher's "
                    "files: "
                    f"paddleseg-ext data prepare {self.COMMAND} --from DIR --to {root}"
                )
            found, lonely = pair_by_stem(images, labels, split)
            samples += found
            problems += lonely
        if problems:
            title = f"{root}: {len(problems)} files without their partner:"
            raise UsageError(listed_problems(title, problems))
        if not samples:
            raise UsageError(f"{root}: no image in images/{mode}")
        super().__init__(samples, self.CLASS_TABLE, transforms)


class ADE20K(PreparedDataset):
    """ADE20K, the 150 classes of its scene parsing challenge of 2016."""

    CLASS_TABLE = ADE20K_TABLE
    COMMAND = "ade20k"


class CocoStuff10k(PreparedDataset):
    """COCO-Stuff 10k v1.1: 171 classes, 9000 images to train and 1000 to validate."""

    CLASS_TABLE = COCO_STUFF_TABLE
    COMMAND = "coco_stuff10k"


class CocoStuff164k(PreparedDataset):
    """COCO-Stuff 164k: 171 classes on train2017 and val2017."""

    CLASS_TABLE = COCO_STUFF_TABLE
    COMMAND = "coco_stuff164k"


class CelebAMaskHQ(PreparedDataset):
    """CelebAMask-HQ: 18 parts of a face and the background."""

    CLASS_TABLE = CELEBA_MASK_TABLE
    COMMAND = "celeba_mask_hq"


def resolve_by_tail(listed: str, root: Path) -> Path:
    """The file below `root` whose path ends as `listed` does, the longest such end.

    Lists travel with the absolute paths of the machine they were written on. Where no end of the
    path exists, the plain name below `root` is returned: its absence is reported later.
    """
    parts = [part for part in PurePosixPath(listed).parts if part != "/"]
    for start in range(len(parts)):
        candidate = root.joinpath(*parts[start:])
        if candidate.is_file():
            return candidate
    return root / parts[-1]


class CamVid(SegmentationDataset):
    """CamVid with 11 classes: the SegNet edition as it is shipped, or what `data prepare` made.

    Every line of the edition's `train.txt`, `val.txt` and `test.txt` names an image and its label
    by absolute paths of another machine; they are found below `dataset_root` by how they end.
    """

    CLASS_TABLE: ClassVar[ClassTable] = CAMVID

    def __init__(
        self, dataset_root: str, transforms: Sequence[Transform] = (), mode: str = "train"
    ):
        """
        Args:
            dataset_root: the folder that holds the lists and the folders they name.
            mode: train, val, test or trainval.

        Raises:
            UsageError: no list of that name, a line without a label, or pairs whose names differ.
        """
        self.mode = require_mode(mode, tuple(SPLITS))
        root = Path(dataset_root)
        samples: list[Sample] = []
        problems: list[str] = []
        for split in SPLITS[mode]:
            if (root / "images" / split).is_dir():
                pairs = pair_by_stem(root / "images" / split, root / "labels" / split, split)
            else:
                pairs = self._pair(root, split)
            samples += pairs[0]
            problems += pairs[1]
        if problems:
            title = f"{root}: {len(problems)} images and labels are no pairs:"
            raise UsageError(listed_problems(title, problems))
        super().__init__(samples, CAMVID, transforms)

    @staticmethod
    def _pair(root: Path, split: str) -> tuple[list[Sample], list[str]]:
        """The samples of a shipped list, and a line for every entry that is no pair."""
        samples, problems = [], []
        for listed in read_sample_list(root / f"{split}.txt", root="/"):
            image = resolve_by_tail(listed.image.as_posix(), root)
            if listed.label is None:
                problems.append(f"{split}.txt: {listed.image}: no label")
                continue
            label = resolve_by_tail(listed.label.as_posix(), root)
            if image.stem != label.stem:
                problems.append(f"{split}.txt: {image} and {label}: the names differ")
            samples.append(Sample(image, label, f"{split}/{image.stem}"))
        return samples, problems
