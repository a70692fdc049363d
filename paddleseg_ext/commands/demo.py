"""The whole way on the embedded data set: train, score, export, infer, prove, report.

Runs the project's own commands one after the other, as a user would, and writes what came of them
to SAVE_DIR/report.html, one self-contained file. Needs no data, no GPU and no network; takes a few
minutes on two cores.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed, UsageError
from paddleseg_ext.common.files import require_writable, write_text
from paddleseg_ext.common.log import log
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.demo.report import Step, write_report
from paddleseg_ext.images.samples import write_sample_list

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = "configs/bisenetv1/bisenetv1_synthetic_demo.yml"
MARKER = ".demo"
NUM_IMAGES, SIZE_WH = 160, (384, 192)


@dataclass(frozen=True)
class Folders:
    """Where the demo's steps leave their results."""

    root: Path

    @property
    def data(self) -> Path:
        """The embedded data set, in Cityscapes' layout."""
        return self.root / "data"

    @property
    def weights(self) -> Path:
        """The best checkpoint."""
        return self.root / "train" / "best_model" / "model.pdparams"

    @property
    def bundle(self) -> Path:
        """What export wrote."""
        return self.root / "bundle" / "deploy.yaml"

    def of(self, step: str) -> Path:
        """The folder of a step that predicts or compares."""
        return self.root / step


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "demo")
    parser.add_argument("--save_dir", type=Path, default="output/demo", help="for everything")
    parser.add_argument("--iters", type=flags.positive_int, help="training iterations (yml's)")
    parser.add_argument("--seed", type=flags.natural_int, default=0, help="of data and training")
    return parser


def main(argv: list[str]) -> int | None:
    """Run every step; a failed comparison is still reported before the status tells.

    Raises:
        CheckFailed: a step failed, or the deployed network does not agree with the trained one.
    """
    arguments = build_parser().parse_args(argv)
    folders = Folders(make_room(arguments.save_dir))
    started = time.perf_counter()
    steps = []
    commands = list(plan(folders, arguments))
    for number, (name, command) in enumerate(commands, start=1):
        print(f"\n== demo, step {number} of {len(commands)}: {name}", flush=True)
        step = run(name, command)
        steps.append(step)
        # A failed verdict is reported; a step that broke has left nothing to report.
        judged = name == "parity" and (folders.of(name) / "results.json").is_file()
        if step.status != STATUS_DONE and not judged:
            raise CheckFailed(f"step '{name}' ended with status {step.status}: {step.command}")
        if name == "data":
            for split in ("train", "val"):
                samples = Cityscapes(str(folders.data), mode=split).samples
                write_sample_list(samples, folders.data / f"{split}.list")
    report = write_report(folders.root, steps)
    print_sections(folders)
    minutes = (time.perf_counter() - started) / 60
    results = read_json(folders.of("parity") / "results.json")
    mean_iou = results["reference"]["scores"]["mean_iou"]
    log(
        f"[DEMO] verdict: {results['grade']}; validation mIoU {mean_iou:.4f}; "
        f"{minutes:.1f} minutes; {report}"
    )
    if steps[-1].status != STATUS_DONE:
        raise CheckFailed(f"the deployed network does not agree with the trained one; {report}")
    return None


def make_room(save_dir: Path) -> Path:
    """An empty folder for the demo; what an earlier demo left there is deleted.

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


def plan(folders: Folders, arguments: argparse.Namespace) -> Sequence[tuple[str, list[str]]]:
    """Name and command of each step; every command is one of the project's own."""
    config = ["--config", CONFIG, "--opts"]
    config += [f"{split}_dataset.dataset_root={folders.data}" for split in ("train", "val")]
    weights, val_list = f"--model_path={folders.weights}", folders.data / "val.list"
    width, height = SIZE_WH
    data = ["-m", "paddleseg_ext", "data", "synthetic", "--save_dir", str(folders.data)]
    data += ["--num_images", str(NUM_IMAGES), "--size", str(width), str(height)]
    data += ["--seed", str(arguments.seed)]
    train = ["train.py", *config, "--do_eval", f"--seed={arguments.seed}", "--device=cpu"]
    train += [f"--save_dir={folders.of('train')}", "--keep_checkpoint_max=1"]
    train += ["--save_interval=80"]
    train += [f"--iters={arguments.iters}"] if arguments.iters else []
    predict = ["predict.py", *config, weights, f"--image_path={val_list}", "--device=cpu"]
    parity = ["-m", "paddleseg_ext", "parity", *config, weights, f"--bundle={folders.bundle}"]
    parity += [f"--image_list={val_list}", f"--save_dir={folders.of('parity')}"]
    parity += ["--negative_controls", "--stages", "static", "--results"]
    parity += [f"{name}={folders.of(name)}" for name in ("val", "predict", "infer", "infer_onednn")]
    infer = ["infer.py", f"--config={folders.bundle}", f"--image_path={val_list}", "--device=cpu"]
    infer += ["--benchmark=True"]
    return [
        ("data", data),
        ("train", train),
        ("val", ["val.py", *config, weights, f"--save_dir={folders.of('val')}", "--device=cpu"]),
        ("predict", [*predict, f"--save_dir={folders.of('predict')}"]),
        ("export", ["export_model.py", *config, weights, f"--save_dir={folders.bundle.parent}"]),
        ("infer", [*infer, "--enable_mkldnn=False", f"--save_dir={folders.of('infer')}"]),
        (
            "infer_onednn",
            [*infer, "--enable_mkldnn=True", f"--save_dir={folders.of('infer_onednn')}"],
        ),
        ("parity", parity),
    ]


def run(name: str, command: Sequence[str]) -> Step:
    """Run one of the project's commands from the project's folder, its output on the terminal."""
    shown = shlex.join(["python", *command])
    print(f"$ {shown}", flush=True)
    started = time.perf_counter()
    status = subprocess.run([sys.executable, *command], cwd=PROJECT, check=False).returncode
    return Step(name, shown, status, time.perf_counter() - started)


def print_sections(folders: Folders) -> None:
    """`#predict` and `#inference` once more, together: they are what the demo is about."""
    from paddleseg_ext.evaluation.evaluator import format_array

    for title, step, file in (
        ("#predict", "predict", "predict.json"),
        ("#inference, oneDNN off", "infer", "inference.json"),
        ("#inference, oneDNN on", "infer_onednn", "inference.json"),
    ):
        scores = read_json(folders.of(step) / file)["evaluation"]["scores"]
        print(f"\n{title}\nmIoU: {scores['mean_iou']:.4f} Acc: {scores['accuracy']:.4f}")
        print(f"Class IoU:\n{format_array(_array(scores['class_iou']))}")
        print(f"Class Acc:\n{format_array(_array(scores['class_precision']))}", flush=True)


def _array(values: Sequence[float | None]) -> Any:
    import numpy as np

    return np.array([np.nan if value is None else value for value in values])


def read_json(path: Path) -> Any:
    """What a step wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
