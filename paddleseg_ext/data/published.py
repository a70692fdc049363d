"""The published data sets besides Cityscapes: CamVid, ADE20K, COCO-Stuff and CelebAMask-HQ.

They are read in the layout that `paddleseg-ext data prepare` writes: `images/SPLIT/*` and
`labels/SPLIT/*.png` with classes, 255 for ignored pixels. CamVid is read as it is shipped, too.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from paddleseg_ext.common.errors import MissingData, UsageError
from paddleseg_ext.common.files import located
from paddleseg_ext.data.datasets import SPLITS, SplitDataset, Transform
from paddleseg_ext.images.class_names import (
    ADE20K_NAMES,
    CELEBA_MASK_NAMES,
    COCO_STUFF_NAMES,
    left_right_pairs,
)
from paddleseg_ext.images.labels import CAMVID, ClassTable, lookup_table
from paddleseg_ext.images.palette import spread_palette
from paddleseg_ext.images.samples import Sample, pair_by_stem, read_sample_list

# In the publisher's files 0 is unlabelled, 1..150 are the classes.
ADE20K_LOOKUP = lookup_table({raw: raw - 1 for raw in range(1, 151)}, ignored={0})
ADE20K_TABLE = ClassTable("ade20k", ADE20K_NAMES, spread_palette(150))
PUBLISHED_ADE20K_TABLE = replace(ADE20K_TABLE, label_lookup=ADE20K_LOOKUP, lookup_suffix="")
PUBLISHED_SPLITS = {"train": "training", "val": "validation"}
COCO_STUFF_TABLE = ClassTable("coco_stuff", COCO_STUFF_NAMES, spread_palette(171))
CELEBA_MASK_TABLE = ClassTable(
    "celeba_mask_hq",
    CELEBA_MASK_NAMES,
    spread_palette(19),
    left_right=left_right_pairs(CELEBA_MASK_NAMES),  # brows, eyes and ears
)


class PreparedDataset(SplitDataset):
    """A data set in the layout that `data prepare` writes."""

    COMMAND: ClassVar[str]

    def _pair(self, root: Path, split: str) -> tuple[list[Sample], list[str]]:
        images = root / "images" / split
        if not images.is_dir():
            raise MissingData(
                f"dataset_root: {located(images)} does not exist; make it from the publisher's "
                f"files: paddleseg-ext data prepare {self.COMMAND} --from DIR --to {root}"
            )
        return pair_by_stem(images, root / "labels" / split, split)


class ADE20K(PreparedDataset):
    """ADE20K, the 150 classes of its scene parsing challenge of 2016.

    Its publisher's folder is read as it is, too: `images/training/*.jpg` and
    `annotations/training/*.png`, in which 0 is ignored and the classes count from 1.
    """

    CLASS_TABLE = ADE20K_TABLE
    COMMAND = "ade20k"

    def __init__(
        self, dataset_root: str, transforms: Sequence[Transform] = (), mode: str = "train"
    ):
        """As `SplitDataset`."""
        super().__init__(dataset_root, transforms, mode)
        if _holds_published(Path(dataset_root), SPLITS[mode][0]):
            self.class_table = PUBLISHED_ADE20K_TABLE

    def _pair(self, root: Path, split: str) -> tuple[list[Sample], list[str]]:
        if not _holds_published(root, split):
            return super()._pair(root, split)
        folder = PUBLISHED_SPLITS[split]
        return pair_by_stem(root / "images" / folder, root / "annotations" / folder, split)


def _holds_published(root: Path, split: str) -> bool:
    """Whether a folder is the publisher's ADE20K and not what `data prepare` made of it."""
    published = root / "annotations" / PUBLISHED_SPLITS.get(split, split)
    return published.is_dir() and not (root / "images" / split).is_dir()


class CocoStuff10k(PreparedDataset):
    """COCO-Stuff 10k v1.1: 171 classes, 9000 training and 1000 validation images."""

    CLASS_TABLE = COCO_STUFF_TABLE
    COMMAND = "coco_stuff10k"


class CocoStuff164k(PreparedDataset):
    """COCO-Stuff 164k: 171 classes on train2017 and val2017."""

    CLASS_TABLE = COCO_STUFF_TABLE
    COMMAND = "coco_stuff164k"


class CelebAMaskHQ(PreparedDataset):
    """CelebAMask-HQ: 18 parts of faces and the background."""

    CLASS_TABLE = CELEBA_MASK_TABLE
    COMMAND = "celeba_mask_hq"

    def __init__(
        self,
        dataset_root: str,
        transforms: Sequence[Transform] = (),
        mode: str = "train",
        left_right: list[list[str]] | None = None,
    ):
        """
        Args:
            dataset_root: the folder that `data prepare` wrote.
            mode: train, val, test or trainval.
            left_right: pairs of class names that mirrored images exchange; by default brows, eyes
                and ears, [] for none.

        Raises:
            MissingData: as `SplitDataset`.
        """
        super().__init__(dataset_root, transforms, mode)
        self.class_table = self.class_table.with_left_right(left_right)


def resolve_by_tail(listed: str, root: Path) -> Path:
    """The file below `root` that shares the longest end with the path `listed`.

    Published lists contain absolute paths of the machine that they were written on. Where no end
    of the path exists, the plain name below `root` is returned and reported as missing later.
    """
    parts = [part for part in PurePosixPath(listed).parts if part != "/"]
    for start in range(len(parts)):
        candidate = root.joinpath(*parts[start:])
        if candidate.is_file():
            return candidate
    return root / parts[-1]


class CamVid(SplitDataset):
    """CamVid with 11 classes: the SegNet edition as it is shipped, or as `data prepare` writes it.

    Each line of the edition's `train.txt`, `val.txt` and `test.txt` names an image and its label
    by absolute paths of another machine; both are found below `dataset_root` by the paths' ends.
    """

    CLASS_TABLE: ClassVar[ClassTable] = CAMVID
    PROBLEMS = "images and labels are no pairs"
    REFUSAL = UsageError

    def _pair(self, root: Path, split: str) -> tuple[list[Sample], list[str]]:
        if (root / "images" / split).is_dir():
            return pair_by_stem(root / "images" / split, root / "labels" / split, split)
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
