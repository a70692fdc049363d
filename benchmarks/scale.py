"""Speed of more workers and more processes on one machine: the measured part of docs/scale.md.

    python benchmarks/scale.py --bundle output/demo/bundle/deploy.yaml --images images \
        --config configs/bisenetv1/bisenetv1_synthetic_demo.yml

Runs `deploy.ray.batch` with 1 and 2 workers, and `train.py` in 1, 2 and 4 processes on the same
global batch, each with one thread, in turns. A worker's images/s come from the times of the label
maps and leave the start out; a training's seconds per iteration are the median of its log. With
more processes than cores the machine is measured and not the code, so the table names the number of
cores.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError, run_command
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import available_cores, cpu_name

PROJECT = Path(__file__).resolve().parents[1]
GLOBAL_BATCH = 4
WARMUP_ITERS = 3
WARMUP_SHARE = 0.2  # of the label maps: the workers do not start together
BATCH_COST = re.compile(r"batch_cost: ([\d.]+)")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--bundle", required=True, metavar="YAML", help="deploy.yaml, for Ray")
    parser.add_argument("--images", required=True, metavar="PATH", help="a folder, for Ray")
    parser.add_argument("--backend", default="paddle_onednn", help="of Ray's workers")
    parser.add_argument("--config", required=True, metavar="YML", help="of a training")
    parser.add_argument("--iters", type=flags.positive_int, default=15, help="of a training")
    parser.add_argument("--rounds", type=flags.positive_int, default=3, help="of everything")
    parser.add_argument("--workers", type=flags.positive_int, nargs="*", default=[1, 2])
    parser.add_argument("--processes", type=flags.positive_int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--save_path", default="output/scale.json", help="for the figures")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure in turns, print a Markdown table."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    for flag in ("bundle", "images", "config"):
        path = Path(getattr(arguments, flag)).resolve()  # the commands run in the project's folder
        if not path.exists():
            raise UsageError(f"--{flag}: '{path}' does not exist")
        setattr(arguments, flag, str(path))
    for count in arguments.processes:
        if GLOBAL_BATCH % count:
            raise UsageError(f"--processes: {count} does not divide a batch of {GLOBAL_BATCH}")
    found: dict[str, list[float]] = {}
    for number in range(arguments.rounds):
        for count in arguments.workers:
            rate = images_per_second(arguments, count)
            found.setdefault(f"Ray, {count} workers", []).append(rate)
            log(f"[SCALE] round {number}: Ray, {count} workers: {rate:.2f} images/s")
        for count in arguments.processes:
            rate = samples_per_second(arguments, count)
            found.setdefault(f"training, {count} processes", []).append(rate)
            log(f"[SCALE] round {number}: {count} processes: {rate:.2f} samples/s")
    print(table(found))
    machine = {"cpu": cpu_name(), "cores": available_cores()}
    write_json(arguments.save_path, machine | {"images_per_second": found})


def images_per_second(arguments: argparse.Namespace, workers: int) -> float:
    """Speed of `deploy.ray.batch`, from the times at which the label maps were written."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        command = ["-m", "deploy.ray.batch", "--config", arguments.bundle, "--images"]
        command += [arguments.images, "--save_dir", folder, "--workers", str(workers)]
        run([*command, "--backend", arguments.backend])
        times = sorted(path.stat().st_mtime_ns / 1e9 for path in Path(folder).rglob("*.png"))
    first = int(len(times) * WARMUP_SHARE)
    if len(times) - first < 2:
        raise UsageError(f"--images: {len(times)} are too few to measure with")
    return (len(times) - 1 - first) / (times[-1] - times[first])


def samples_per_second(arguments: argparse.Namespace, processes: int) -> float:
    """Speed of `train.py` with one global batch, from the median time of an iteration."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
        launcher += ["--log_dir", f"{folder}/log"]
        command = ["train.py", "--config", arguments.config, "--device", "cpu", "--save_dir"]
        command += [f"{folder}/run", "--iters", str(arguments.iters), "--log_iters", "1"]
        command += ["--batch_size", str(GLOBAL_BATCH // processes)]
        said = run([*(launcher if processes > 1 else []), *command])
    seconds = [float(value) for value in BATCH_COST.findall(said)][WARMUP_ITERS:]
    if not seconds:
        raise UsageError(f"--iters {arguments.iters}: the first {WARMUP_ITERS} are not counted")
    return GLOBAL_BATCH / float(np.median(seconds))


def run(command: Sequence[str]) -> str:
    """A command of the project with one thread per process; returns its output."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(
            f"{shlex.join(command)} ended with {done.returncode}: {done.stdout[-500:]}"
        )
    return done.stdout


def table(found: dict[str, list[float]]) -> str:
    """Medians, and their ratio to those of one worker or process."""
    lines = [f"{cpu_name()}, {available_cores()} cores", "", "| run | images/s | of one |"]
    lines += ["|---|---|---|"]
    alone: dict[str, float] = {}
    for name, rates in found.items():
        median = float(np.median(rates))
        kind = name.split(",")[0]
        alone.setdefault(kind, median)
        lines.append(f"| {name} | {median:.2f} | {median / alone[kind]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
