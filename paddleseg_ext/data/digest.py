"""The sha256 of a data set: whether another copy holds the same images and labels."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.packed import PackedDataset
from paddleseg_ext.images.samples import Sample


def digest_of(dataset: Any, name: str) -> str:
    """Hex SHA-256 over names and files of a data set's samples, in their order.

    Args:
        dataset: from `data.build.build_dataset`. Of a packed one, the checksums of its shards.
        name: of its section, for the progress line.
    """
    whole = hashlib.sha256()
    if isinstance(dataset, PackedDataset):
        for shard in dataset.index["shards"]:
            whole.update(shard["sha256"].encode())
        return whole.hexdigest()
    with ThreadPoolExecutor(available_cores()) as pool:
        lines = pool.map(_line_of, dataset.samples)
        for line in track(lines, f"hash {name}", total=len(dataset.samples)):
            whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _line_of(sample: Sample) -> str:
    label = "" if sample.label is None else sha256_of(sample.label)
    return f"{sample.name}\0{sha256_of(sample.image)}\0{label}\n"
