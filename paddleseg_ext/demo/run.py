"""The whole way on the embedded data set: draw, train, score, export, infer, compare, report.

Every step is a verb of `paddleseg-ext` in a process of its own, as a user would run it.
"""

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed, UsageError
from paddleseg_ext.common.files import require_writable, write_text
from paddleseg_ext.common.flags import natural_int, positive_int
from paddleseg_ext.common.options import option
from paddleseg_ext.common.processes import child_process
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.demo.report import RUNS, DemoStep, read_json, write_report
from paddleseg_ext.evaluation.evaluator import format_array
from paddleseg_ext.images.samples import write_sample_list

CONFIG = "bisenetv1_synthetic_demo"
MARKER = ".demo"
# Of the demo, and of its small variant.
NUM_IMAGES, SIZE_WH, SAVE_INTERVAL = 160, (384, 192), 80
QUICK_NUM_IMAGES, QUICK_SIZE_WH, QUICK_CROP_WH, QUICK_ITERS = 30, (192, 96), (128, 64), 20


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo."""

    save_dir: Path = option(Path("output/demo"), "for everything")
    iters: int | None = option(None, "training iterations (yml's)", parse=positive_int)
    seed: int = option(0, "of data and training", parse=natural_int)
    quick: bool = option(
        False,
        "fewer and smaller scenes, a few iterations: whether everything runs, in a minute",
        nargs="?",
        const=True,
    )


@dataclass(frozen=True)
class DemoResult:
    """Result of the demo.

    Attributes:
        grade: of the comparison of the deployed network with the trained one.
        mean_iou: of the trained network on the validation images.
        report: the HTML file.
        agrees: whether the comparison passed.
    """

    grade: str
    mean_iou: float
    report: Path
    agrees: bool


def run_demo(options: DemoOptions) -> DemoResult:
    """Run every step and write the report; a failed comparison is reported, too.

    Raises:
        UsageError: `save_dir` holds something that no demo wrote.
        CheckFailed: a step broke.
    """
    root = make_room(options.save_dir)
    steps = []
    commands = plan(root, options)
    for number, (name, command) in enumerate(commands, start=1):
        print(f"\n== demo, step {number} of {len(commands)}: {name}", flush=True)
        step = run_step(name, command)
        steps.append(step)
        # A failed verdict is reported; a step that broke has left nothing to report.
        judged = name == "parity" and (root / name / "results.json").is_file()
        if step.status != STATUS_DONE and not judged:
            raise CheckFailed(f"step '{name}' ended with status {step.status}: {step.command}")
        if name == "data":
            for split in ("train", "val"):
                samples = Cityscapes(str(root / name), mode=split).samples
                write_sample_list(samples, root / name / f"{split}.list")
    report = write_report(root, steps)
    print_sections(root)
    results = read_json(root / "parity" / "results.json")
    mean_iou = results["reference"]["scores"]["mean_iou"]
    return DemoResult(results["grade"], mean_iou, report, steps[-1].status == STATUS_DONE)


def make_room(save_dir: Path) -> Path:
    """Return an empty folder for the demo, absolute; an earlier demo's results are deleted.

    Raises:
        UsageError: it holds something that no demo wrote.
    """
    marker = save_dir / MARKER
    if save_dir.is_dir() and any(save_dir.iterdir()):
        if not marker.is_file():
            raise UsageError(f"--save_dir: '{save_dir}' holds other things; name a new folder")
        shutil.rmtree(save_dir)
    require_writable(save_dir, "--save_dir")
    write_text(marker, "The demo may delete this folder when it is run again.\n")
    return save_dir.resolve()


def plan(root: Path, options: DemoOptions) -> list[tuple[str, list[str]]]:
    """Name and command line of each step.

    A command line begins with its verb. Export writes to `bundle`, any other step to its name.
    """
    num_images, (width, height) = NUM_IMAGES, SIZE_WH
    iters, save_interval = options.iters, SAVE_INTERVAL
    config = ["--config", CONFIG, "--opts"]
    config += [f"{split}_dataset.dataset_root={root / 'data'}" for split in ("train", "val")]
    crop = []
    if options.quick:
        num_images, (width, height) = QUICK_NUM_IMAGES, QUICK_SIZE_WH
        iters = save_interval = iters or QUICK_ITERS
        crop = [f"train_dataset.transforms.0.crop_size={list(QUICK_CROP_WH)}"]
    weights = f"--model_path={root / 'train' / 'best_model' / 'model.pdparams'}"
    bundle, val_list = root / "bundle" / "deploy.yaml", root / "data" / "val.list"

    def into(step: str) -> str:
        return f"--save_dir={root / step}"

    data = ["data", "synthetic", into("data"), f"--num_images={num_images}"]
    data += ["--size", str(width), str(height), f"--seed={options.seed}"]
    train = ["train", *config, *crop, "--do_eval", f"--seed={options.seed}", "--device=cpu"]
    train += [into("train"), "--keep_checkpoint_max=1", f"--save_interval={save_interval}"]
    train += [f"--iters={iters}"] if iters else []
    on_images = [f"--image_path={val_list}", "--device=cpu"]
    infer = ["infer", f"--config={bundle}", *on_images, "--benchmark=True"]
    parity = ["parity", *config, weights, f"--bundle={bundle}", into("parity")]
    parity += [f"--image_list={val_list}", "--negative_controls", "--stages", "static", "--results"]
    parity += [f"{name}={root / name}" for name in ("val", "predict", "infer", "infer_onednn")]
    return [
        ("data", data),
        ("train", train),
        ("val", ["val", *config, weights, into("val"), "--device=cpu"]),
        ("predict", ["predict", *config, weights, *on_images, into("predict")]),
        ("export", ["export", *config, weights, into("bundle")]),
        ("infer", [*infer, "--enable_mkldnn=False", into("infer")]),
        ("infer_onednn", [*infer, "--enable_mkldnn=True", into("infer_onednn")]),
        ("parity", parity),
    ]


def run_step(name: str, command: Sequence[str]) -> DemoStep:
    """Run a verb in a process of its own, its output on the terminal."""
    shown = shlex.join(["paddleseg-ext", *command])
    print(f"$ {shown}", flush=True)
    started = time.perf_counter()
    with child_process([sys.executable, "-m", "paddleseg_ext", *command]) as process:
        status = process.wait()
    return DemoStep(name, shown, status, time.perf_counter() - started)


def print_sections(root: Path) -> None:
    """Print `#predict` and `#inference` once more, together: the demo compares them."""
    for title, file in RUNS:
        scores = read_json(root / file)["evaluation"]["scores"]
        print(f"\n{title}\nmIoU: {scores['mean_iou']:.4f} Acc: {scores['accuracy']:.4f}")
        for name, key in (("IoU", "class_iou"), ("Acc", "class_precision")):
            values = np.array(scores[key], float)  # null of an absent class becomes NaN
            print(f"Class {name}:\n{format_array(values)}", flush=True)
