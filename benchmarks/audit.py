"""Recall of `data audit` on drawn scenes with injected label faults, against random order.

    python benchmarks/audit.py --save_dir output/audit_benchmark

Of the objects in the training labels 5 % are relabelled, shifted or removed, a third each. The
demo's network is trained on these labels, and `data audit` ranks them. Beside it, fresh scenes with
1, 5 and 10 % of faults are ranked by the same network. A fault counts as found where the middle of
a region within the first tenth of the list is one of its pixels. A finished training is kept, so
that an interrupted run goes on.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import run_command
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.common.progress import track
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.data.parts import parts_of_config
from paddleseg_ext.evaluation.audit import probabilities_of
from paddleseg_ext.evaluation.eager import eager_predictor
from paddleseg_ext.evaluation.suspects import Look, Suspect, look_at, rank
from paddleseg_ext.images.labels import CITYSCAPES, IGNORE_INDEX, decode_label
from paddleseg_ext.images.scenes import SceneOptions, write_synthetic
from paddleseg_ext.inference.pipeline import StreamOptions
from paddleseg_ext.training.train import TrainOptions, train

CONFIG = "bisenetv1_synthetic_demo"
OBJECTS = tuple(
    CITYSCAPES.class_names.index(name)
    for name in (
        *("pole", "traffic light", "traffic sign", "person", "rider", "car", "truck", "bus"),
        *("motorcycle", "bicycle"),
    )
)
KINDS = ("relabelled", "shifted", "missing")
FEWEST_PIXELS = 60
SHIFT_PIXELS = (6, 14)
FIRST = 0.1  # of the list
SHUFFLES = 50
SEED, FRESH_SEED = 0, 7

Label = NDArray[np.uint8]


@dataclass(frozen=True)
class BenchmarkOptions:
    """The network, the data and the faults of one measurement."""

    save_dir: Path = option(Path("output/audit_benchmark"), "data, trainings and results.json")
    trained: float = option(0.05, "share of the objects with a fault in the training labels")
    fresh: list[float] = option([0.01, 0.05, 0.1], "and in those of fresh scenes")
    num_images: int = option(160, "scenes, a fifth of them for validation", at_least=5)
    size: tuple[int, int] = option((256, 128), "width and height of the scenes", nargs=2)
    iters: int = option(300, "training iterations", at_least=1)


@dataclass(frozen=True)
class Fault:
    """An injected fault: its kind, and (H, W) bool, the pixels whose class was changed."""

    kind: str
    wrong: NDArray[np.bool_]


Faults = list[Fault]


def objects_of(label: Label) -> list[NDArray[np.bool_]]:
    """(H, W) bool per connected object of at least `FEWEST_PIXELS` pixels."""
    found = []
    for index in OBJECTS:
        count, parts = cv2.connectedComponents((label == index).astype(np.uint8))
        masks = (parts == number for number in range(1, count))
        found += [mask for mask in masks if mask.sum() >= FEWEST_PIXELS]
    return found


def inject(
    label: Label, mask: NDArray[np.bool_], kind: str, generator: np.random.Generator
) -> Fault:
    """Change one object of a label in place."""
    before = label.copy()
    own = before[mask][0]
    if kind == "relabelled":
        label[mask] = generator.choice([index for index in OBJECTS if index != own])
    else:
        label[mask] = _surroundings(before, mask)[mask]
    if kind == "shifted":
        length, angle = generator.uniform(*SHIFT_PIXELS), generator.uniform(0, 2 * np.pi)
        by = round(length * np.sin(angle)), round(length * np.cos(angle))
        label[np.roll(mask, by, axis=(0, 1)) & (before != IGNORE_INDEX)] = own
    return Fault(kind, label != before)


def _surroundings(label: Label, mask: NDArray[np.bool_]) -> Label:
    """The label with the object's and ignored pixels replaced by their nearest others."""
    hidden = (mask | (label == IGNORE_INDEX)).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(nearest.max() + 1, np.uint8)
    values[nearest[hidden == 0]] = label[hidden == 0]
    return values[nearest]


def draw(root: Path, seed: int, options: BenchmarkOptions) -> None:
    """Draw scenes, once."""
    if not root.exists():
        write_synthetic(root, SceneOptions(options.num_images, options.size, seed))


def with_faults(root: Path, rate: float, write: bool = False) -> tuple[list[Label], list[Faults]]:
    """Per training scene, in the data set's order, its label with faults, and these.

    The true labels are `*_labelIds.png`; with `write` the others become `*_labelTrainIds.png`.
    """
    generator, count = np.random.default_rng(round(1e3 * rate)), 0
    labels, faults = [], []
    for path in sorted(root.glob("gtFine/train/*/*_labelIds.png")):
        label = decode_label(path, CITYSCAPES)
        own: Faults = []
        for mask in objects_of(label):
            if generator.uniform() < rate:
                own.append(inject(label, mask, KINDS[count % len(KINDS)], generator))
                count += 1
        if write:
            cv2.imwrite(str(path).replace("_labelIds", "_labelTrainIds"), label)
        labels.append(label)
        faults.append(own)
    return labels, faults


def config_for(root: Path, options: BenchmarkOptions) -> Config:
    """The demo's configuration on these scenes, whose changed labels are read."""
    side = min(options.size)
    changes = [f"train_dataset.transforms.0.crop_size=[{side}, {side}]"]
    for section in ("train_dataset", "val_dataset"):
        changes += [f"{section}.dataset_root={root}", f"{section}.label_kind=labelTrainIds"]
    return load_config(CONFIG, changes, iters=options.iters)


def ranked(config: Config, weights: Path, labels: Sequence[Sequence[Label]]) -> list[list[Suspect]]:
    """The list of `data audit` for each set of labels of the training scenes, predicted once."""
    part = parts_of_config(config)[0]
    predictor = eager_predictor(config, weights, "cpu", part.class_table)
    looks: list[list[Look]] = [[] for _ in labels]
    predictions = predictor.stream(part.samples, StreamOptions(keep_output=True))
    for number, prediction in enumerate(track(predictions, "audit", total=len(part.samples))):
        probabilities = probabilities_of(predictor, prediction)
        for own, each in zip(looks, labels, strict=True):
            own.append(look_at(number, probabilities, each[number], part.class_table))
    return [rank(own) for own in looks]


def hits(suspects: Sequence[Suspect], faults: Sequence[Faults]) -> dict[str, float]:
    """Per kind the share of the faults in which the middle of one of these regions lies."""
    found = {kind: [0, 0] for kind in KINDS}
    middles: dict[int, list[tuple[int, int]]] = {}
    for suspect in suspects:
        middles.setdefault(suspect.region.image, []).append(suspect.region.middle)
    for image, own in enumerate(faults):
        for fault in own:
            found[fault.kind][0] += any(fault.wrong[y, x] for x, y in middles.get(image, []))
            found[fault.kind][1] += 1
    shares = {kind: hit / max(1, count) for kind, (hit, count) in found.items()}
    hit, count = (sum(each) for each in zip(*found.values(), strict=True))
    return shares | {"all": hit / max(1, count), "faults": count}


def measure(suspects: Sequence[Suspect], faults: Sequence[Faults]) -> dict[str, Any]:
    """Recall of the first tenth of a list, of random tenths, and of the whole list."""
    count = round(FIRST * len(suspects))
    shuffled = [
        hits(random.Random(seed).sample(list(suspects), count), faults)["all"]
        for seed in range(SHUFFLES)
    ]
    images = list(dict.fromkeys(suspect.region.image for suspect in suspects))
    first = images[: round(FIRST * len(faults))]
    in_images = sum(len(faults[image]) for image in first) / max(1, sum(map(len, faults)))
    return {
        "regions": len(suspects),
        "first": hits(suspects[:count], faults),
        "random": sum(shuffled) / SHUFFLES,
        "whole_list": hits(suspects, faults)["all"],
        "first_images": in_images,
    }


def main() -> None:
    """Draw, inject, train and audit; print and write the recalls."""
    options = parse_options(BenchmarkOptions, __doc__ or "")
    trained, fresh = options.save_dir / "trained", options.save_dir / "fresh"
    draw(trained, SEED, options)
    draw(fresh, FRESH_SEED, options)
    labels, faults = with_faults(trained, options.trained, write=True)
    config, folder = config_for(trained, options), options.save_dir / "train"
    weights = folder / f"iter_{options.iters}" / "model.pdparams"
    if not weights.exists():
        train(config, TrainOptions(save_dir=folder, save_interval=options.iters, device="cpu"))
    (suspects,) = ranked(config, weights, [labels])
    results = [{"labels": "trained on", "rate": options.trained} | measure(suspects, faults)]
    print(results[-1], flush=True)
    given = [with_faults(fresh, rate) for rate in options.fresh]
    lists = ranked(config_for(fresh, options), weights, [labels for labels, _ in given])
    for rate, suspects, (_, faults) in zip(options.fresh, lists, given, strict=True):
        results.append({"labels": "fresh", "rate": rate} | measure(suspects, faults))
        print(results[-1], flush=True)
    write_json(options.save_dir / "results.json", results)


if __name__ == "__main__":
    run_command(main)
