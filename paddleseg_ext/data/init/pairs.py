"""Finds images and labels in folders however they are laid out, and divides them.

Known layouts, each with or without folders `train`, `val` and `test` at any level:

    images/... and labels/...       the folders' names are in IMAGE_FOLDERS and LABEL_FOLDERS
    f0.jpg, f0_mask.png             masks beside their images, with an ending of their own
    train.list, val.list            of `data prepare` or `data index`
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from paddleseg_ext.common.errors import MissingData, UsageError, shortened
from paddleseg_ext.data.prepare.export import split_of
from paddleseg_ext.data.splitting import Grouping, split_by_name
from paddleseg_ext.images.folders import files_below
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.samples import (
    LABEL_SUFFIXES,
    Sample,
    folded_name,
    read_sample_list,
    unique_names,
)

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "rgb", "frames")
LABEL_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "segmentationclass",
    "gtfine",
    "gt",
    "ground_truth",
)
SPLITS = ("train", "val", "test")
DEFAULT_VAL_SHARE = 0.1
# Fewer groups than this share of the samples: their names are numbered as a video's frames are.
FEW_GROUPS = 0.2


@dataclass(frozen=True)
class Places:
    """The user's folders and name endings; None where `data init` looks for them.

    Attributes:
        images: folder of the images, below the root.
        labels: folder of the labels, below the root.
        image_suffix: end of the images' names.
        label_suffix: end of the labels' names.
    """

    images: str | None = None
    labels: str | None = None
    image_suffix: str | None = None
    label_suffix: str | None = None


@dataclass
class Found:
    """The pairs of a folder.

    Attributes:
        splits: "train", "val", "test", or "" where the layout has none -> samples.
        left_out: files without their partner.
        hint: about the division; empty where there is nothing to say.
    """

    splits: dict[str, list[Sample]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    hint: str = ""


def find_pairs(root: Path, places: Places) -> Found:
    """The images of a folder with their labels, by the splits that its layout has.

    Raises:
        MissingData: there is no such folder.
        UsageError: no image has a label, or it is not clear which files are labels.
    """
    if not root.is_dir():
        raise MissingData(f"data init: '{root}' is not a folder")
    lists = {split: root / f"{split}.list" for split in SPLITS}
    if any(path.is_file() for path in lists.values()) and places == Places():
        return Found({s: read_sample_list(path) for s, path in lists.items() if path.is_file()})
    images = _files(root, places.images, IMAGE_FOLDERS, IMAGE_SUFFIXES)
    labels = _files(root, places.labels, LABEL_FOLDERS, LABEL_SUFFIXES)
    if not images:
        raise UsageError(
            f"data init: '{root / (places.images or '')}' holds no image; --images names their "
            f"folder; suffixes known: {', '.join(IMAGE_SUFFIXES)}"
        )
    if not labels and (lossy := _files(root, places.labels, LABEL_FOLDERS, IMAGE_SUFFIXES)):
        raise UsageError(
            f"data init: no label in {shortened([str(path) for path in lossy.values()])} is of a "
            f"kind that keeps its values ({', '.join(LABEL_SUFFIXES)}): JPEG changes them at every "
            "edge; export the labels as PNG"
        )
    if not labels:  # masks beside their images
        labels = {key: path for key, path in images.items() if path.suffix.lower() == ".png"}
        labels = labels or images
    images = _without_ending(images, places.image_suffix, "--image_suffix")
    if places.label_suffix is not None:
        labels = _without_ending(labels, places.label_suffix, "--label_suffix")
    else:
        labels = _without_ending(labels, _found_ending(images, labels), "")
    masks = set(labels.values())
    images = {key: path for key, path in images.items() if path not in masks}
    result = Found()
    for key, image in images.items():
        if key in labels:
            split = next((s for part in key.split("/")[:-1] if (s := split_of(part))), "")
            split = split or _split_above(image, root)
            result.splits.setdefault(split, []).append(Sample(image, labels[key], key))
        else:
            result.left_out.append(str(image))
    result.left_out += [str(path) for key, path in labels.items() if key not in images]
    if not result.splits:
        raise UsageError(
            f"data init: no image in '{root}' has a label of the same name ({len(images)} images, "
            f"{len(labels)} labels: {shortened([str(path) for path in masks]) or 'none'}); say "
            "where they are: --images, --labels, --image_suffix, --label_suffix"
        )
    return result


def _split_above(image: Path, root: Path) -> str:
    """The split that a folder between the root and the image names."""
    parts = image.relative_to(root).parts[:-1] if image.is_relative_to(root) else ()
    return next((split for part in parts if (split := split_of(part))), "")


def _files(
    root: Path, given: str | None, names: Sequence[str], suffixes: Sequence[str]
) -> dict[str, Path]:
    """Files by their path below their folder, with the split's name where it is above."""
    if given is not None:
        folders = [root / given]
        if not folders[0].is_dir():
            raise MissingData(f"data init: '{folders[0]}' is not a folder")
    else:
        within = [root, *(p for p in sorted(root.iterdir()) if p.is_dir() and split_of(p.name))]
        inner = [path for folder in within for path in sorted(folder.iterdir()) if path.is_dir()]
        folders = [path for path in inner if path.name.lower() in names]
        if not folders and names is IMAGE_FOLDERS:
            folders = [root]
    result: dict[str, Path] = {}
    for folder in folders:
        is_ours = given is None and folder != root
        above = folder.relative_to(root).parent if is_ours else PurePosixPath()
        for file in files_below(folder, suffixes, hidden=False)[0]:
            key = (PurePosixPath(above) / file.relative_to(folder)).as_posix()
            result.setdefault(key, file)
    return result


def _without_ending(files: dict[str, Path], ending: str | None, flag: str) -> dict[str, Path]:
    """Files by their key without ending and suffix; those with another ending are left out."""
    wanted = ending or ""
    with_suffix = PurePosixPath(wanted).suffix.lower() in IMAGE_SUFFIXES and wanted != ""
    result: dict[str, Path] = {}
    for key, path in files.items():
        stem = key if with_suffix else str(PurePosixPath(key).with_suffix(""))
        if not stem.endswith(wanted):
            continue
        name = stem[: len(stem) - len(wanted)]
        if (first := result.setdefault(name, path)) != path:
            raise UsageError(
                f"data init: '{first}' and '{path}' have one name; "
                f"{flag or '--label_suffix'} says which are meant, such as .png"
            )
    if ending and not result:
        raise UsageError(f"data init: no file ends in '{ending}' ({flag or '--label_suffix'})")
    return result


def _found_ending(images: dict[str, Path], labels: dict[str, Path]) -> str:
    """The ending that labels' names have beyond the images', such as `_mask`."""
    beside = set(images.values()) >= set(labels.values())
    keys = {str(PurePosixPath(key).with_suffix("")) for key in labels}
    endings: Counter[str] = Counter()
    for key in keys:
        for length in range(len(key) - beside, 0, -1):
            if key[:length] in images and "/" not in key[length:]:
                endings[key[length:]] += 1
                break
    # The right ending gives each image one label; f0 and f0_1 of a numbered series do not.
    fitting = []
    for ending in endings:
        masks = {key for key in keys if key.endswith(ending)}
        own = images.keys() - masks if beside else images.keys()
        if {key[: len(key) - len(ending)] for key in masks} >= own and own:
            fitting.append(ending)
    if len(fitting) == 1:
        return fitting[0]
    if "" in fitting:
        return ""
    likely = [ending for ending, _ in endings.most_common(4)]
    if len(fitting) > 1 or (beside and not fitting):
        found = f" (seen: {shortened([repr(e) for e in fitting or likely])})" if likely else ""
        raise UsageError(
            "data init: which files are labels? --label_suffix says what their names end in, such "
            f"as _mask.png{found}; or name the folder of the labels: --labels"
        )
    return likely[0] if likely else ""


def divide(found: Found, val_share: float | None, by: Grouping) -> dict[str, list[Sample]]:
    """The samples of "train", "val" and "test"; those that are empty are left out.

    Args:
        found: from `find_pairs`; gets a hint about names that look like a video's frames.
        val_share: None keeps the layout's own validation images, or takes a tenth.
        by: what stays together, see `splitting`.
    """
    own = {split: samples for split, samples in found.splits.items() if samples}
    result = {"test": own.pop("test", [])}
    if val_share is None and "val" in own:
        result |= {"train": [*own.get("train", []), *own.get("", [])], "val": own["val"]}
    else:
        samples = [sample for split in ("train", "", "val") for sample in own.get(split, [])]
        names = _names(samples)
        share = DEFAULT_VAL_SHARE if val_share is None else val_share
        chosen = split_by_name(names, share, by)
        result |= {"train": [], "val": []}
        for name, sample in zip(names, samples, strict=True):
            result["val" if name in chosen else "train"].append(sample)
        groups = {PurePosixPath(name).parent / _letters(name) for name in names}
        if by == "name" and len(names) > 9 and len(groups) < FEW_GROUPS * len(names):
            found.hint = (
                "the names are numbered; if the images are frames of a video, --split_by sequence "
                "keeps neighbours out of both parts"
            )
    return {split: result[split] for split in SPLITS if result.get(split)}


def _names(samples: Sequence[Sample]) -> list[str]:
    names = [sample.name for sample in samples]
    if len({folded_name(name) for name in names}) == len(names):
        return names
    return unique_names([sample.image for sample in samples])


def _letters(name: str) -> str:
    return "".join(letter for letter in PurePosixPath(name).name if not letter.isdecimal())
