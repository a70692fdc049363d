"""Recall of `data audit` on drawn scenes with injected label faults, against random order.

    python benchmarks/audit.py --save_dir output/audit_benchmark

Of the objects in the training labels a share is relabelled, shifted or removed, a third each. The
demo's network is trained on these labels, which `data audit` then ranks. Beside it, fresh scenes
with as many faults are ranked by the same network, which never saw them. A fault counts as found
where the middle of a region within the first tenth of the list is one of its pixels. Finished
trainings are kept, so that an interrupted run goes on.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import run_command
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.evaluation.audit import AuditOptions, audit
from paddleseg_ext.evaluation.suspects import Suspect
from paddleseg_ext.images.labels import CITYSCAPES, IGNORE_INDEX
from paddleseg_ext.images.scenes import SceneOptions, write_synthetic
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
FEWEST_PIXELS = 40
SHIFT_PIXELS = (5, 12)
FIRST = 0.1  # of the list
SHUFFLES = 50
SEEDS = (0, 7)

Label = NDArray[np.uint8]


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured."""

    save_dir: Path = option(Path("output/audit_benchmark"), "data, trainings and results.json")
    rates: list[float] = option([0.01, 0.05, 0.1], "shares of the objects with a fault")
    num_images: int = option(160, "scenes, a fifth of them for validation", at_least=5)
    size: tuple[int, int] = option((256, 128), "width and height of the scenes", nargs=2)
    iters: int = option(300, "training iterations", at_least=1)


@dataclass(frozen=True)
class Fault:
    """An injected fault: its kind, and (H, W) bool, the pixels whose class was changed."""

    kind: str
    wrong: NDArray[np.bool_]


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


def faults_of(root: Path, rate: float) -> dict[str, list[Fault]]:
    """Image name -> its faults, which are written into the label files of the split `train`.

    The class values of `*_labelTrainIds.png` are changed; the true ones stay in `*_labelIds.png`,
    from which the faults are drawn anew in a later run.
    """
    generator, count = np.random.default_rng(round(1e4 * rate)), 0
    faults: dict[str, list[Fault]] = {}
    for path in sorted(root.glob("gtFine/train/*/*_labelTrainIds.png")):
        true_file = Path(str(path).replace("_labelTrainIds", "_labelIds"))
        raw = cv2.imread(str(true_file), cv2.IMREAD_UNCHANGED)
        assert CITYSCAPES.label_lookup is not None
        label = CITYSCAPES.label_lookup[raw]
        own = faults.setdefault(path.name.partition("_gtFine")[0], [])
        for mask in objects_of(label):
            if generator.uniform() < rate:
                own.append(inject(label, mask, KINDS[count % len(KINDS)], generator))
                count += 1
        cv2.imwrite(str(path), label)
    return faults


def config_for(root: Path, options: BenchmarkOptions) -> Config:
    """The demo's configuration on these scenes, whose changed labels are read."""
    side = min(options.size)
    changes = [f"train_dataset.transforms.0.crop_size=[{side}, {side}]"]
    for section in ("train_dataset", "val_dataset"):
        changes += [f"{section}.dataset_root={root}", f"{section}.label_kind=labelTrainIds"]
    return load_config(CONFIG, changes, iters=options.iters)


def hits(suspects: Sequence[Suspect], names: Sequence[str], faults: dict[str, list[Fault]]) -> dict:
    """Per kind the share of the faults in which the middle of one of these regions lies."""
    found = {kind: [0, 0] for kind in KINDS}
    middles: dict[str, list[tuple[int, int]]] = {}
    for suspect in suspects:
        middles.setdefault(names[suspect.region.image], []).append(suspect.region.middle)
    for name, own in faults.items():
        for fault in own:
            found[fault.kind][1] += 1
            is_hit = any(fault.wrong[y, x] for x, y in middles.get(name, []))
            found[fault.kind][0] += is_hit
    shares = {kind: hit / max(1, count) for kind, (hit, count) in found.items()}
    total = [sum(each) for each in zip(*found.values(), strict=True)]
    return shares | {"all": total[0] / max(1, total[1]), "faults": total[1]}


def measure(root: Path, weights: Path, rate: float, options: BenchmarkOptions) -> dict:
    """Recall of the first tenth of the audit's list, of random tenths, and of the whole list."""
    faults = faults_of(root, rate)
    config = config_for(root, options)
    result = audit(config, weights, AuditOptions(save_dir=root / "audit", pictured=20), "cpu")
    audited = result.parts[0]
    names = [
        Path(sample.image).name.partition("_leftImg8bit")[0] for sample in audited.part.samples
    ]
    count = round(FIRST * len(audited.suspects))
    shuffled = [
        hits(random.Random(seed).sample(audited.suspects, count), names, faults)["all"]
        for seed in range(SHUFFLES)
    ]
    return {
        "rate": rate,
        "regions": len(audited.suspects),
        "first": hits(audited.suspects[:count], names, faults),
        "random": sum(shuffled) / SHUFFLES,
        "whole_list": hits(audited.suspects, names, faults)["all"],
        "images_first": hits_of_images(audited.suspects, names, faults),
    }


def hits_of_images(
    suspects: Sequence[Suspect], names: Sequence[str], faults: dict[str, list[Fault]]
) -> float:
    """Share of the faults that are in the first tenth of the images; in random order a tenth."""
    order = list(dict.fromkeys(names[suspect.region.image] for suspect in suspects))
    first = order[: round(FIRST * len(names))]
    total = sum(map(len, faults.values()))
    return sum(len(faults.get(name, [])) for name in first) / max(1, total)


def main() -> None:
    """Draw, inject, train and audit per rate; print and write the recalls."""
    options = parse_options(BenchmarkOptions, __doc__ or "")
    results = []
    for rate in options.rates:
        folder = options.save_dir / f"rate_{rate:g}"
        roots = {"its own labels": folder / "seen", "fresh scenes": folder / "fresh"}
        for root, seed in zip(roots.values(), SEEDS, strict=True):
            if not root.exists():
                write_synthetic(root, SceneOptions(options.num_images, options.size, seed))
            faults_of(root, rate)
        weights = folder / "train" / f"iter_{options.iters}" / "model.pdparams"
        if not weights.exists():
            how = TrainOptions(save_dir=folder / "train", save_interval=options.iters, device="cpu")
            train(config_for(folder / "seen", options), how)
        for what, root in roots.items():
            results.append({"audited": what} | measure(root, weights, rate, options))
            print(results[-1], flush=True)
    write_json(options.save_dir / "results.json", results)


if __name__ == "__main__":
    run_command(main)
