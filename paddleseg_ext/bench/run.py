"""Bundles and runtimes measured beside one another, in turns, on real images."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from paddleseg_ext.bench.report import Row, advice_lines, part_lines, table_lines, write_results
from paddleseg_ext.bench.worker import Bench, Candidate, Worker, start_gemm
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.flags import boolean, natural_int, positive_int
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import available_cores, cpu_name
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.bundle_protocol import rule_for_bundle
from paddleseg_ext.evaluation.turns import SETTLE_SECONDS
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.table import DEPLOYED, ENGINES
from paddleseg_ext.inference.runtime import RuntimeSpec, known_runtimes

RUNTIMES = tuple(
    name
    for name, spec in known_runtimes().items()
    if spec.engine in DEPLOYED and spec.device == "cpu"
)


@dataclass(frozen=True)
class BenchOptions(CheckedOptions):
    """Which runtimes are measured, and how often."""

    backend: list[str] = option(
        [],
        f"runtimes of each bundle, of {', '.join(RUNTIMES)} (default: all that are installed and "
        "that it has a graph for)",
        nargs="+",
        choices=RUNTIMES,
        metavar="NAME",
    )
    rounds: int = option(30, "images, in turn", parse=positive_int)
    warm_up: int = option(3, "rounds before, not counted", parse=natural_int)
    batch_sizes: list[int] = option([1], "of the throughput", parse=positive_int, nargs="*")
    streams: list[int] = option(
        [1],
        "runs at a time in the throughput, one row each; Paddle has 1 only",
        parse=positive_int,
    )
    cpu_affinity: list[bool] = option(
        [False],
        "whether each thread is bound to a core, one row each; not for Paddle",
        parse=boolean,
        metavar="True|False",
    )
    video: Path | None = option(
        None, "a video: its frames also measure temporal consistency", metavar="FILE"
    )
    video_frames: int = option(50, "of it, from the first", parse=positive_int)
    device: str = field(default="cpu")
    threads: int | None = field(default=None)


def bench(
    configs: Sequence[Path], samples: list[Sample], options: BenchOptions, save_dir: Path
) -> list[dict[str, Any]]:
    """Measure, print the tables, and write bench.csv, bench.json and the picture.

    Returns:
        One record per candidate that could be opened, as in bench.json.

    Raises:
        UsageError: no candidate can be opened, or two bundles have one name.
    """
    candidates = list(list_candidates(configs, options))
    for config in configs:
        rule_for_bundle(read_bundle(config, hashed=False))  # it logs the protocol
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none
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
        peak = take_turns(workers, gemm, rows, options)
    results = [row.to_json(peak) for row in rows.values()]
    print("\n".join([*table_lines(results), "", "medians, ms", *part_lines(results)]), flush=True)
    machine = {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": options.threads,
        "load_before": load_before,
        "peak_gflops": peak,
        "rounds": options.rounds,
        "images": len(samples),
    }
    for file in write_results(save_dir, machine, results):
        log(f"written: {file}")
    log(
        f"peak of float32, by a product of matrices: {peak:.1f} GFLOP/s with "
        f"{options.threads} threads"
    )
    for line in advice_lines(list(rows.values()), taken_by_auto(list(rows.values()))):
        log(line)
    return results


def taken_by_auto(rows: Sequence[Row]) -> dict[str, str]:
    """Bundle folder -> the candidate that `--backend auto` takes by a recorded speed."""
    taken: dict[str, str] = {}
    for row in rows:
        try:
            spec, _ = choose_runtime(row.bundle)
        except UsageError:
            continue
        found = row.bundle.verified.get(spec.name)
        if row.candidate.spec.name == spec.name and found is not None and found.speed:
            folder = row.bundle.deploy_file.resolve().parent.name
            taken.setdefault(folder, row.candidate.name)
    return taken


def list_candidates(configs: Sequence[Path], options: BenchOptions) -> Iterator[Candidate]:
    """Each bundle in each runtime; there, each number of streams, bound to cores or not.

    Raises:
        UsageError: two bundles would have one name, or a bundle does not exist.
    """
    names = [read_bundle(config).deploy_file.resolve().parent.name for config in configs]
    if len(set(names)) < len(names):
        raise UsageError(
            f"--config: the bundles are named by their folders, and two are alike: {names}"
        )
    pairs = [
        (config, bundle_name if len(configs) > 1 else "", name)
        for config, bundle_name in zip(configs, names, strict=True)
        for name in dict.fromkeys(options.backend or possible_runtimes(read_bundle(config)))
    ]
    for config, bundle_name, name in pairs:
        entry = ENGINES[RuntimeSpec.parse(name).engine]
        streams = options.streams if entry.streams else [1]
        pinning = options.cpu_affinity if entry.pinning else [False]
        for number, pinned in dict.fromkeys(product(streams, pinning)):
            spec = RuntimeSpec.parse(
                name,
                device=options.device,
                threads=options.threads,
                streams=number,
                pinned=pinned,
            )
            yield Candidate(config, spec, bundle_name)


def possible_runtimes(bundle: Bundle) -> list[str]:
    """Names of the runtimes that are installed, can run here and have a graph in the bundle."""
    possible = []
    for name in RUNTIMES:
        spec = RuntimeSpec.parse(name)
        entry = ENGINES[spec.engine]
        if not entry.is_installed or not bundle.has_graph(entry.graphs[spec.precision]):
            continue
        try:
            spec.check()
        except UsageError:  # bf16 on a CPU without it
            continue
        possible.append(name)
    return possible


def open_workers(
    candidates: Sequence[Candidate], samples: list[Sample], stack: ExitStack
) -> dict[str, Worker]:
    """A process for each that can be opened; the others are named in the log.

    Raises:
        UsageError: none can be opened.
    """
    workers = {}
    for candidate in track(candidates, "open", total=len(candidates)):
        if not ENGINES[candidate.spec.engine].is_installed:
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
    workers: dict[str, Worker], gemm: Worker, rows: dict[str, Row], options: BenchOptions
) -> float:
    """Fill the rows, round by round; returns the peak in GFLOP/s."""
    peak = 0.0
    rounds = range(-options.warm_up, options.rounds)
    for index in track(rounds, "bench", total=len(rounds)):
        for name, worker in workers.items():
            turn = worker.call("turn", index)
            speeds = {n: settled(worker, "throughput", n) for n in options.batch_sizes}
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
        if options.video is not None:
            rows[name].consistency = consistency(worker, name, options.video, options.video_frames)
        rows[name].peak_memory_mb = worker.call("peak_memory_mb")
    return peak


def consistency(worker: Worker, name: str, video: Path, most_frames: int) -> float | None:
    """Temporal consistency of a candidate; None where there is none, and a warning says why."""
    found, why_none = worker.call("consistency", video, most_frames)
    if why_none:
        warn(f"{name}: --video {video}: no temporal consistency: {why_none}")
    return found


def settled(worker: Worker, method: str, *arguments: Any) -> Any:
    """The call, after the threads of the one before have gone to sleep."""
    time.sleep(SETTLE_SECONDS)
    return worker.call(method, *arguments)
