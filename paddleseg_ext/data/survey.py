"""Survey of a data set: sizes, modes, class shares, mean and std, duplicates, and problems."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.data.datasets import read_pair
from paddleseg_ext.data.parts import Part
from paddleseg_ext.data.validate import each_sample
from paddleseg_ext.images.header import FORMATS
from paddleseg_ext.images.label_counts import LabelCounts
from paddleseg_ext.images.orientation import UPRIGHT
from paddleseg_ext.images.reading import FileHeader, header_of
from paddleseg_ext.images.samples import Sample


@dataclass
class Survey:
    """The findings over a part of a data set; files that cannot be used are in `problems` only.

    Attributes:
        part: the samples that were read, and their classes.
        images: number of images.
        labelled: number of images with a label.
        sizes: "WIDTHxHEIGHT" -> images.
        modes: Pillow's mode of the image file ("RGB", "L"; "?" where only OpenCV reads it) ->
            images.
        tags: orientation tag, 1 where there is none -> images.
        deep: the largest value, 0..255 after the reading, per image of more than 8 bits.
        class_pixels: `(C,)` int64.
        class_images: `(C,)` int64, images in which the class occurs.
        ignored_pixels: number of ignored pixels.
        mean: `(3,)` over all pixels, RGB in 0..1.
        std: `(3,)` over all pixels, RGB in 0..1.
        duplicates: groups of samples whose image files have the same content.
        digests: sample name -> SHA-256 of the image file.
        problems: as `validate.check_samples` returns them.
    """

    part: Part
    images: int = 0
    labelled: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    tags: Counter[int] = field(default_factory=Counter)
    deep: list[int] = field(default_factory=list)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    class_images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored_pixels: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(3))
    std: np.ndarray = field(default_factory=lambda: np.zeros(3))
    duplicates: list[list[str]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def label_counts(self) -> LabelCounts:
        """The labels' pixels per class."""
        table = self.part.class_table
        return LabelCounts.of(table, self.class_pixels, self.ignored_pixels, self.labelled)

    @property
    def class_shares(self) -> np.ndarray:
        """`(C,)`, shares of the labelled pixels; all 0 where there are none."""
        return self.class_pixels / max(1, int(self.class_pixels.sum()))


@dataclass(frozen=True)
class _Look:
    """One sample's findings."""

    size_wh: tuple[int, int]
    header: FileHeader
    digest: str
    mean: np.ndarray  # (3,) of 0..255
    square: np.ndarray  # (3,) mean of the squares
    counts: np.ndarray | None  # (256,) label values
    most: int  # the largest value, 0..255, of an image of more than 8 bits


def survey(part: Part) -> Survey:
    """Read every image and label once."""
    table = part.class_table
    result = Survey(part)
    result.class_pixels = np.zeros(table.num_classes, np.int64)
    result.class_images = np.zeros(table.num_classes, np.int64)
    pixels, total, squares = 0, np.zeros(3), np.zeros(3)
    looks = each_sample(partial(_look, part=part), part.samples, part.name)
    for sample, look in zip(part.samples, looks, strict=True):
        if isinstance(look, str):
            result.problems.append(look)
            continue
        _add(result, sample, look)
        area = look.size_wh[0] * look.size_wh[1]
        pixels += area
        total += look.mean * area
        squares += look.square * area
    if pixels:
        result.mean = total / pixels / 255
        result.std = np.sqrt(np.maximum(squares / pixels / 255**2 - result.mean**2, 0))
    result.duplicates = same_content([result])
    return result


def _look(sample: Sample, part: Part) -> _Look | str:
    try:
        image, label = read_pair(sample, part.class_table, part.orientation)
    except DataError as error:
        return str(error)
    content = sample.image.read_bytes()
    counts = None if label is None else np.bincount(label.ravel(), minlength=256)
    mean, std = (values[:, 0] for values in cv2.meanStdDev(image))
    size_wh, digest = (image.shape[1], image.shape[0]), hashlib.sha256(content).hexdigest()
    _, header = header_of(content, str(sample.image), FORMATS)
    most = int(image.max()) if header.bits > 8 else 0
    return _Look(size_wh, header, digest, mean, std**2 + mean**2, counts, most)


def _add(result: Survey, sample: Sample, look: _Look) -> None:
    result.images += 1
    result.sizes["{}x{}".format(*look.size_wh)] += 1
    result.modes[look.header.mode] += 1
    result.tags[look.header.orientation] += 1
    if look.header.bits > 8:
        result.deep.append(look.most)
    result.digests[sample.name] = look.digest
    if look.counts is not None:
        table = result.part.class_table
        own = look.counts[: table.num_classes]
        result.labelled += 1
        result.class_pixels += own
        result.class_images += own > 0
        result.ignored_pixels += int(look.counts[table.ignore_index])


def same_content(surveys: Sequence[Survey]) -> list[list[str]]:
    """Groups of samples, within and between surveys, whose image files are equal."""
    names = defaultdict(list)
    for each in surveys:
        for name, digest in each.digests.items():
            names[digest].append(f"{each.part.name}: {name}")
    return [group for group in names.values() if len(group) > 1]


def survey_lines(result: Survey) -> list[str]:
    """The survey as lines of text."""
    lines = [
        f"{result.part.name}: {result.images} images, {result.labelled} with a label, "
        f"{len(result.problems)} cannot be used"
    ]
    lines.append(f"  sizes: {', '.join(f'{size} ({n})' for size, n in common(result.sizes))}")
    lines.append(f"  modes: {', '.join(f'{mode} ({n})' for mode, n in common(result.modes))}")
    lines += _reading_lines(result)
    lines.append(f"  mean (RGB, 0..1): {np.round(result.mean, 4).tolist()}")
    lines.append(f"  std  (RGB, 0..1): {np.round(result.std, 4).tolist()}")
    if result.labelled:
        all_pixels = int(result.class_pixels.sum()) + result.ignored_pixels
        lines.append(f"  ignored: {result.ignored_pixels / max(1, all_pixels):.4f} of all pixels")
        lines.append(f"  {'class':<24} {'share':>8} {'images':>8}")
        for name, share, images in zip(
            result.part.class_table.class_names,
            result.class_shares,
            result.class_images,
            strict=True,
        ):
            never = "" if images else "  never occurs"
            lines.append(f"  {name:<24} {share:8.4f} {images:8d}{never}")
    lines += [f"  same image: {', '.join(group)}" for group in result.duplicates]
    return lines


def _reading_lines(result: Survey) -> list[str]:
    """Counts of images that a viewer may show otherwise than they are read."""
    lines = []
    turned = {tag: count for tag, count in sorted(result.tags.items()) if tag != UPRIGHT}
    if turned:
        shown = ", ".join(f"{tag} ({count})" for tag, count in turned.items())
        done = "applied" if result.part.orientation == "upright" else "not applied"
        lines.append(
            f"  orientation tags: {sum(turned.values())} images, {shown}; {done} "
            f"(orientation: {result.part.orientation})"
        )
    if result.deep:
        most = 256 * max(result.deep) + 255
        line = f"  more than 8 bits: {len(result.deep)} images, the high 8 of 16 bits are read"
        if max(result.deep) < 128:
            line += (
                f"; no value is above {most} ({most.bit_length()} bits), so that they are read as "
                "nearly black: scale them to the full range"
            )
        lines.append(line)
    return lines


def common(counter: Counter[str], most: int = 8) -> list[tuple[str, int]]:
    """The `most` frequent entries, and one for all others together."""
    entries = counter.most_common()
    if len(entries) <= most:
        return entries
    return [*entries[:most], ("other", sum(count for _, count in entries[most:]))]
