r"""Measure bundles and backends beside one another, in turns, on real images.

Every candidate (a bundle on a backend) has a process of its own, and one runs at a time: each round
takes one image through every candidate, so that a busy machine is unfair to none. Of each image it
tells decode, preprocess, copy in, run, copy out, postprocess and encode; p50, p90 and p99 are of
the network (copy in, run, copy out) and the label map (postprocess), and 'new size' is the
network's first run of an input size: some backends compile for each. In the same rounds come the
images a second at each batch size, of network and label map and of the first image's size, and a
product of matrices, the machine's peak.

SAVE_DIR gets bench.csv, bench.json and, where the images have labels, speed_accuracy.png. A
candidate whose recorded parity failed is marked, and one that runs otherwise than asked for, or
whose GPU was not waited for, is refused. What does not run here is named and left out.

  paddleseg-ext bench --config a/deploy.yaml b/deploy.yaml --data val.list \
      --backend paddle_onednn onnxruntime openvino_int8 --batch_sizes 1 4 --save_dir output/bench
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from paddleseg_ext.bench.report import Row, part_lines, table_lines, write_results
from paddleseg_ext.bench.worker import Bench, Candidate, Worker, start_gemm
from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import (
    available_cores,
    cpu_name,
    fix_thread_count,
    resolve_device,
)
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.samples import Sample, collect_samples
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.choice import ONNX_BACKENDS, is_installed
from paddleseg_ext.inference.engines.open import BACKENDS, ONNX_PRECISIONS, stage_name

# name -> (backend, precision)
STAGES = {
    stage_name(name, precision): (name, precision)
    for name in BACKENDS
    for precision in ONNX_PRECISIONS
    if precision == "fp32" or name in ONNX_BACKENDS
}
DEFAULT_STAGES = tuple(name for name, (_, precision) in STAGES.items() if precision == "fp32")
# OpenMP's threads spin for so long after a run; the next candidate would share its cores with them.
SETTLE_SECONDS = 0.2


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "bench")
    parser.add_argument(
        "--config", required=True, nargs="+", type=Path, metavar="YAML", help="bundles"
    )
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="images, with labels for mIoU; as for infer"
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=STAGES,
        default=list(DEFAULT_STAGES),
        metavar="NAME",
        help=f"what runs each bundle, of {', '.join(STAGES)}",
    )
    parser.add_argument("--rounds", type=flags.positive_int, default=30, help="images, in turn")
    parser.add_argument(
        "--warm_up", type=flags.natural_int, default=3, help="rounds before, not counted"
    )
    parser.add_argument(
        "--batch_sizes", nargs="*", type=flags.positive_int, default=[1], help="of the throughput"
    )
    parser.add_argument(
        "--streams",
        nargs="+",
        type=flags.positive_int,
        default=[1],
        help="runs at a time in the throughput, one row each; Paddle has 1 only",
    )
    parser.add_argument(
        "--cpu_affinity",
        nargs="+",
        type=flags.boolean,
        default=[False],
        metavar="True|False",
        help="whether each thread is bound to a core, one row each; not for Paddle",
    )
    flags.add_device_flag(parser)
    parser.add_argument("--cpu_threads", type=flags.positive_int, help="default: every core")
    parser.add_argument("--save_dir", default="output/bench", help="for the results")
    return parser


def main(argv: list[str]) -> int | None:
    """Check, open, take turns, report."""
    arguments = build_parser().parse_args(argv)
    device = resolve_device(arguments.device)
    threads = fix_thread_count(arguments.cpu_threads)
    samples = collect_samples(arguments.data)
    save_dir = require_writable(arguments.save_dir, "--save_dir")
    candidates = list(list_candidates(arguments, threads, device))
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        workers = open_workers(candidates, samples, stack)
        gemm = stack.enter_context(closing(start_gemm()))
        rows = {
            candidate.name: Row(
                candidate, read_bundle(candidate.config), workers[candidate.name].call("describe")
            )
            for candidate in candidates
            if candidate.name in workers
        }
        peak = take_turns(workers, gemm, rows, arguments)
    results = [row.to_json(peak) for row in rows.values()]
    print("\n".join([*table_lines(results), "", "medians, ms", *part_lines(results)]), flush=True)
    machine = {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": threads,
        "load_before": load_before,
        "peak_gflops": peak,
        "rounds": arguments.rounds,
        "images": len(samples),
    }
    for file in write_results(save_dir, machine, results):
        log(f"written: {file}")
    log(f"peak of float32, by a product of matrices: {peak:.1f} GFLOP/s with {threads} threads")
    return None


def list_candidates(
    arguments: argparse.Namespace, threads: int, device: str
) -> Iterator[Candidate]:
    """Each bundle on each backend; there, each number of streams, bound to cores or not.

    Raises:
        UsageError: two bundles would have one name, or no bundle is there.
    """
    names = [read_bundle(config).deploy_file.resolve().parent.name for config in arguments.config]
    if len(set(names)) < len(names):
        raise UsageError(
            f"--config: the bundles are named by their folders, and two are alike: {names}"
        )
    for config in arguments.config:
        for stage in dict.fromkeys(arguments.backend):
            backend, precision = STAGES[stage]
            ways = [(1, False)]
            if backend in ONNX_BACKENDS:
                ways = list(product(arguments.streams, arguments.cpu_affinity))
            for streams, pinned in dict.fromkeys(ways):
                yield Candidate(config, backend, precision, threads, streams, pinned, device)


def open_workers(
    candidates: Sequence[Candidate], samples: list[Sample], stack: ExitStack
) -> dict[str, Worker]:
    """A process for each that can be opened; the others are named in the log.

    Raises:
        UsageError: none can be opened.
    """
    workers = {}
    for candidate in track(candidates, "open", total=len(candidates)):
        if not is_installed(candidate.backend):
            log(f"{candidate.name}: not installed, left out")
            continue
        try:
            worker = Worker(partial(Bench, candidate, samples))
        except UsageError as error:
            log(f"{candidate.name}: left out: {error}")
            continue
        workers[candidate.name] = stack.enter_context(closing(worker))
    if not workers:
        raise UsageError("bench: no candidate can be opened; the lines above say why")
    return workers


def take_turns(
    workers: dict[str, Worker], gemm: Worker, rows: dict[str, Row], arguments: argparse.Namespace
) -> float:
    """Fill the rows, round by round; returns the peak in GFLOP/s."""
    peak = 0.0
    rounds = range(-arguments.warm_up, arguments.rounds)
    for index in track(rounds, "bench", total=len(rounds)):
        for name, worker in workers.items():
            turn = settled(worker, "turn", index)
            speeds = {n: settled(worker, "throughput", n) for n in arguments.batch_sizes}
            if turn.new_size_s is not None:
                rows[name].new_sizes_s.append(turn.new_size_s)
            if index < 0:
                continue
            rows[name].turns.append(turn)
            for size, speed in speeds.items():
                measured = rows[name].throughputs.setdefault(size, [])
                if speed is not None:
                    measured.append(speed)
        peak = max(peak, settled(gemm, "gflops"))
    for name, worker in workers.items():
        rows[name].throughput_hw = worker.call("throughput_hw")
        rows[name].peak_memory_mb = worker.call("peak_memory_mb")
    return peak


def settled(worker: Worker, method: str, *arguments: Any) -> Any:
    """The call, after the threads of the one before have gone to sleep."""
    time.sleep(SETTLE_SECONDS)
    return worker.call(method, *arguments)
