"""Packed copies of data sets: decoded pixels in a few large files.

`ROOT/MODE/index.json` contains the samples, and the shards with their SHA-256. A shard is a
safetensors file (memory-mapped, nothing in it is executed) with `N.img` (H, W, 3) and `N.label`
(H, W), as classes, per sample. It takes as much space as the raw pixels, 8 MB per pair of
Cityscapes.

A yml reads the packed copy where its `dataset_root` names it; nothing else in the yml changes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError, require_none
from paddleseg_ext.common.files import atomic_directory, require_writable, sha256_of, write_json
from paddleseg_ext.common.json_files import MOST_LISTED_BYTES, read_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.datasets import SegmentationDataset, Transform
from paddleseg_ext.images.class_section import read_class_section
from paddleseg_ext.images.label_counts import LabelCounts
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.samples import Sample

INDEX = "index.json"
SHARD_SIZE = 64  # samples per shard; half a gigabyte for Cityscapes
FORMAT_VERSION = 3


def _safetensors() -> Any:
    with optional_imports("packed data", "pack"):
        import safetensors
        import safetensors.numpy
    return safetensors


def is_packed(dataset_root: Any, mode: Any) -> bool:
    """Whether `dataset_root` holds a packed copy for `mode`."""
    words = isinstance(dataset_root, str) and isinstance(mode, str)
    return words and (Path(dataset_root) / mode / INDEX).is_file()


def settings_of(spec: Mapping[str, Any], orientation: Orientation) -> dict[str, Any]:
    """The keys of a data set's section that determine the packed pixels and labels."""
    kept = {key: spec[key] for key in spec if key not in ("dataset_root", "mode", "transforms")}
    if kept.get("classes") is not None:  # a file's content, not its name
        root = Path(str(spec.get("dataset_root") or "."))
        kept["classes"] = repr(read_class_section(kept["classes"], root, "classes"))
    if orientation != "stored":
        kept["orientation"] = orientation
    return json.loads(json.dumps(kept, default=str))


def pack(dataset: Any, spec: Mapping[str, Any], root: str | Path) -> Path:
    """Write the packed copy of a data set, whole or not at all, and read it back.

    Args:
        dataset: from `data.build.build_dataset`; its transforms are not applied.
        spec: its section of the yml.
        root: the folder that `dataset_root` will name.

    Returns:
        The copy's folder, `root/MODE`.

    Raises:
        UsageError: the data set is PaddleSeg's or packed already, a sample cannot be used or has
            no label, or the folder exists.
    """
    if not isinstance(dataset, SegmentationDataset) or isinstance(dataset, PackedDataset):
        raise UsageError("train_dataset: a data set of ours that is not packed yet is expected")
    library = _safetensors()
    folder = require_writable(root, "--save_dir") / dataset.mode
    if folder.exists():
        raise UsageError(f"--save_dir: '{folder}' exists already; delete it to pack anew")
    shards, counts = [], LabelCounts(dataset.class_table)
    with atomic_directory(folder) as work:
        starts = range(0, len(dataset), SHARD_SIZE)
        for number, start in enumerate(track(starts, "pack", total=len(starts))):
            arrays: dict[str, np.ndarray] = {}
            for index in range(start, min(start + SHARD_SIZE, len(dataset))):
                image, label = dataset.read(index)
                if label is None:
                    raise UsageError(f"{dataset.samples[index].image}: no label to pack")
                arrays[f"{index}.img"], arrays[f"{index}.label"] = image, label
                counts.add(label)
            path = work / f"shard_{number:05d}.safetensors"
            library.numpy.save_file(arrays, path)
            shards.append({"file": path.name, "sha256": sha256_of(path)})
        index_content = {
            "version": FORMAT_VERSION,
            "settings": settings_of(spec, dataset.orientation),
            "class_table": dataset.class_table.to_dict(),
            "label_values": counts.values.tolist(),
            "shard_size": SHARD_SIZE,
            "shards": shards,
            "samples": [
                {"name": s.name, "image": str(s.image.resolve()), "label": str(s.label.resolve())}
                for s in dataset.samples
                if s.label is not None
            ],
        }
        write_json(work / INDEX, index_content)
        _compare(PackedDataset(str(work.parent), mode=work.name), dataset)
    log(f"{len(dataset)} samples are packed in {folder}")
    return folder


def _compare(packed: "PackedDataset", dataset: SegmentationDataset) -> None:
    """Compare the first sample of every shard; the checksums cover the others."""
    for index in range(0, len(dataset), SHARD_SIZE):
        for stored, original in zip(packed.read(index), dataset.read(index), strict=True):
            if not np.array_equal(stored, original):  # type: ignore[arg-type]
                raise UsageError(f"{dataset.samples[index].image}: packed and read back it differs")


class PackedDataset(SegmentationDataset):
    """A data set read from a packed copy."""

    def __init__(
        self, dataset_root: str, transforms: Sequence[Transform] = (), mode: str = "train"
    ):
        """
        Args:
            dataset_root: the `--save_dir` of `data pack`.
            mode: the mode of the data set that was packed.

        Raises:
            UsageError: there is no packed copy, or it has an unknown version.
        """
        self._safetensors = _safetensors()
        self.mode = mode
        self.folder = Path(dataset_root) / mode
        try:
            self.index = read_json(self.folder / INDEX, MOST_LISTED_BYTES)
        except (OSError, ValueError) as error:
            raise UsageError(f"'{self.folder / INDEX}' cannot be read: {error}") from None
        if not isinstance(self.index, dict):
            raise UsageError(f"'{self.folder / INDEX}': a section is expected; pack it anew")
        if self.index.get("version") != FORMAT_VERSION:
            raise UsageError(
                f"'{self.folder}': version {FORMAT_VERSION} of packed data is expected, got "
                f"{self.index.get('version')}; pack it anew"
            )
        samples = [
            Sample(Path(entry["image"]), Path(entry["label"]), entry["name"])
            for entry in self.index["samples"]
        ]
        table = ClassTable.from_dict(self.index["class_table"], f"'{self.folder}': class_table")
        self._opened: dict[int, Any] = {}
        super().__init__(samples, table, transforms)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The image (H, W, 3) uint8 and label (H, W) uint8, copied out of the mapped file."""
        number = index // self.index["shard_size"]
        if number not in self._opened:
            path = self.folder / self.index["shards"][number]["file"]
            self._opened[number] = self._safetensors.safe_open(path, framework="numpy")
        shard = self._opened[number]
        return shard.get_tensor(f"{index}.img"), shard.get_tensor(f"{index}.label")

    def label_counts(self) -> LabelCounts:
        """The labels' pixels per class, which were counted when the copy was written."""
        values = np.array(self.index["label_values"], np.int64)
        return LabelCounts(self.class_table, values, len(self.samples))

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files and modules cannot be pickled; another process opens its own.
        return {**self.__dict__, "_opened": {}, "_safetensors": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _safetensors=_safetensors())

    def verify(self, name: str) -> None:
        """Compare every shard with its stored checksum.

        Raises:
            UsageError: shards are missing or damaged, all of them listed.
        """
        problems = []
        for shard in track(self.index["shards"], f"verify {name}"):
            path = self.folder / shard["file"]
            if not path.is_file():
                problems.append(f"{path}: the file does not exist")
            elif sha256_of(path) != shard["sha256"]:
                problems.append(f"{path}: damaged: its checksum is not the one it was written with")
        title = f"{name}: {len(problems)} shards of the packed data cannot be used:"
        require_none(problems, title)
