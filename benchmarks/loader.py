"""Cost of a training sample: our loader on packed data beside PaddleSeg's on PNG, one core.

    python benchmarks/loader.py [DATASET_ROOT]

1024x512 crops of 2048x1024 images, with the augmentation of the published Cityscapes recipe. With
no folder given, drawn street scenes of that size. Prints samples per core-second (processor time
of the process, one thread) and their ratio; the status is 1 where ours is less than 3 times as
fast.
"""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import CheckFailed, run_command
from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.data.packed import PackedDataset, pack
from paddleseg_ext.images.scenes import SceneOptions, write_synthetic
from paddleseg_ext.registry import DATASETS, TRANSFORMS, build

RECIPE: list[dict[str, Any]] = [
    {
        "type": "ResizeStepScaling",
        "min_scale_factor": 0.5,
        "max_scale_factor": 2.0,
        "scale_step_size": 0.25,
    },
    {"type": "RandomPaddingCrop", "crop_size": [1024, 512]},
    {"type": "RandomHorizontalFlip"},
    {
        "type": "RandomDistort",
        "brightness_range": 0.4,
        "contrast_range": 0.4,
        "saturation_range": 0.4,
    },
    {"type": "Normalize"},
]
SCENES, SIZE_WH = 10, (2048, 1024)
SAMPLES = 24
REQUIRED_RATIO = 3.0


def transforms(only_paddleseg: bool) -> list[Callable]:
    """The recipe, of ours or of PaddleSeg's transforms."""
    return [build(TRANSFORMS, spec, "recipe", only_paddleseg) for spec in RECIPE]


def samples_per_core_second(dataset: Any) -> float:
    """Read and augment; the same seeds, and so the same crops, for every data set."""
    dataset[0]
    started = time.process_time()
    for number in range(SAMPLES):
        random.seed(number)
        np.random.seed(number)
        dataset[number % len(dataset)]
    return SAMPLES / (time.process_time() - started)


def main() -> int | None:
    """Make the data, measure three loaders, compare."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("dataset_root", nargs="?", help="Cityscapes' layout; drawn unless given")
    given = parser.parse_args().dataset_root
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="loader-") as folder:
        root = given or str(Path(folder) / "scenes")
        if given is None:
            write_synthetic(root, SceneOptions(SCENES, SIZE_WH))
        ours = Cityscapes(root, transforms(only_paddleseg=False))
        pack(ours, {"type": "Cityscapes"}, folder)
        packed = PackedDataset(folder, ours.transforms)
        theirs = DATASETS.find("Cityscapes", only_paddleseg=True)(
            transforms=transforms(only_paddleseg=True), dataset_root=root, mode="train"
        )
        rates = {
            "PaddleSeg, PNG": samples_per_core_second(theirs),
            "ours, PNG": samples_per_core_second(ours),
            "ours, packed": samples_per_core_second(packed),
        }
    for name, rate in rates.items():
        print(f"{name:<16} {rate:6.2f} samples per core-second")
    ratio = rates["ours, packed"] / rates["PaddleSeg, PNG"]
    print(f"{'ratio':<16} {ratio:6.2f}")
    if ratio < REQUIRED_RATIO:
        raise CheckFailed(f"at least {REQUIRED_RATIO} times as many samples are expected")
    return None


if __name__ == "__main__":
    run_command(main)
