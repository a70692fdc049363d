"""Producers: programs that run a bundle on their own and leave label maps and `inference.json`.

`cpp` and `cpp_int8` are the C++ program (docs/cpp.md), `web` and `web_int8` the scripts of the page
that runs in browsers, in node (docs/web.md). A producer may decode images otherwise than
the reference, so it gets the reference's pixels, as PNG: a verdict on its network is none on its
decoder.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.evaluation.bundle_protocol import PROTOCOLS_OF_BUNDLES
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.inference.pipeline import SampleLike
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.inference.web.runtime_files import require_archive
from paddleseg_ext.parity.compare import Comparison, Outcome, describe, judge_folder
from paddleseg_ext.parity.web_stage import FLAG, WebProgram, require_node
from paddleseg_ext.scoring.verdict import FAILED, RunVerdict

PROGRAM_VARIABLE = "PADDLESEG_EXT_SEGMENT"
BUILT_PROGRAM = Path("output/cpp/segment")
PRODUCERS: Mapping[str, RuntimeSpec] = {
    "cpp": RuntimeSpec("openvino"),
    "cpp_int8": RuntimeSpec("openvino", "int8"),
    "web": RuntimeSpec("onnxruntime"),
    "web_int8": RuntimeSpec("onnxruntime", "int8"),
}
WEB = tuple(name for name in PRODUCERS if name.startswith("web"))
CPP = tuple(name for name in PRODUCERS if name not in WEB)


@dataclass(frozen=True)
class ProducerRun:
    """One run of a producer.

    Attributes:
        stage: a key of `PRODUCERS`.
        threads: CPU threads.
        batch_size: images that may run together.
    """

    stage: str
    threads: int
    batch_size: int

    @property
    def name(self) -> str:
        """As other runs are named: `cpp threads 2 batch 1`."""
        return f"{self.stage} threads {self.threads} batch {self.batch_size}"


def require_programs(stages: Sequence[str]) -> None:
    """The programs of some stages are there.

    Raises:
        UsageError: one is not; the line says how to get it.
    """
    if set(stages) & set(CPP):
        find_program()
    if set(stages) & set(WEB):
        require_node()
        require_archive(FLAG)


def find_program() -> Path:
    """The C++ program: as the environment names it, as `make cpp` builds it, or in the PATH.

    Raises:
        UsageError: it is not there.
    """
    checkout = Path(__file__).resolve().parents[2]
    named = os.environ.get(PROGRAM_VARIABLE)
    places = [Path(named)] if named else [BUILT_PROGRAM, checkout / BUILT_PROGRAM]
    found = next((place for place in places if place.is_file()), None)
    if found is None and not named and (on_path := shutil.which("segment")):
        found = Path(on_path)
    if found is None:
        raise UsageError(
            f"--stages: {' and '.join(CPP)} run the C++ program, which is not built: make "
            f"cpp (docs/cpp.md), or name it in {PROGRAM_VARIABLE}"
        )
    return found.resolve()


def producer_runs(
    stages: Sequence[str], threads: Sequence[int], batch_sizes: Sequence[int]
) -> list[ProducerRun]:
    """The runs of some stages, each with all threads and batch sizes; `web` has no batches."""
    runs = product(stages, threads, batch_sizes)
    return list(dict.fromkeys(ProducerRun(s, t, 1 if s in WEB else batch) for s, t, batch in runs))


def compare_producers(
    runs: Sequence[ProducerRun], comparison: Comparison, folder: Path
) -> list[Outcome]:
    """The outcomes of producers on the reference's samples; logs each.

    Args:
        runs: what is run.
        comparison: the bundle and the reference.
        folder: for pixels and results; an empty one.

    Raises:
        UsageError: the program is not there.
    """
    if not runs:
        return []
    names = _write_pixels(comparison, folder)
    web = None
    outcomes = []
    for number, run in enumerate(runs):
        results = folder / f"run_{number}"
        try:
            if run.stage in WEB:
                web = web or WebProgram.of(comparison, folder / "web")
                reason = _run_web(run, web, comparison, results, names)
            else:
                reason = _run_cpp(run, comparison, folder, results)
        except UsageError as error:  # the bundle cannot be run by it
            reason = str(error)
        if reason:
            verdict = RunVerdict(FAILED, len(names), reason=reason.removeprefix("error: "))
            precision = PRODUCERS[run.stage].precision
            outcome = Outcome(run.name, run.stage, verdict, precision=precision)
        else:
            outcome = _outcome(run, comparison, results, names)
        outcomes.append(outcome)
        log(f"[PARITY] {outcome.name}: {describe(outcome)}")
    return outcomes


def _write_pixels(comparison: Comparison, folder: Path) -> dict[str, str]:
    """Write the reference's pixels and their list; returns the name of each file's sample."""
    lines, names = [], {}
    orientation = comparison.reference.preprocess.orientation
    for number, sample in enumerate(comparison.reference.samples):
        stem = f"{number:06d}"
        write_png(folder / "pixels" / f"{stem}.png", read_image(sample.image, orientation), 1)
        lines.append("\t".join([f"pixels/{stem}.png", *_label_of(sample)]))
        names[stem] = sample.name
    (folder / "pixels.list").write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
    return names


def _label_of(sample: SampleLike) -> list[str]:
    """The sample's label for a list; none where a list cannot hold its name."""
    label = None if sample.label is None else str(sample.label.resolve())
    return [label] if label is not None and not set(label) & set("\t\r\n") else []


def _run_cpp(run: ProducerRun, comparison: Comparison, folder: Path, results: Path) -> str:
    """Run the C++ program on the pixels; returns why it left no result."""
    command = [str(find_program()), "--config", str(comparison.bundle.deploy_file)]
    command += ["--image_path", str(folder / "pixels.list"), "--save_dir", str(results)]
    command += ["--precision", PRODUCERS[run.stage].precision, "--cpu_threads", str(run.threads)]
    command += ["--batch_size", str(run.batch_size), "--print_detail", "False"]
    if comparison.protocol.name in PROTOCOLS_OF_BUNDLES:
        command += ["--protocol", comparison.protocol.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if (results / "inference.json").is_file():
        return ""
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _run_web(
    run: ProducerRun,
    web: WebProgram,
    comparison: Comparison,
    results: Path,
    names: Mapping[str, str],
) -> str:
    """Run the page's scripts on the pixels; returns why they left no result."""
    files = [[str(results.parent / "pixels" / f"{stem}.png"), stem] for stem in names]
    precision = PRODUCERS[run.stage].precision
    job = {"precision": precision, "threads": run.threads, "images": files}
    return web.run(comparison, job, results)


def _outcome(
    run: ProducerRun, comparison: Comparison, results: Path, names: Mapping[str, str]
) -> Outcome:
    """The outcome of label maps that a program left under the names of its files."""
    for stem, name in names.items():
        produced = results / LABEL_MAPS / f"{stem}.png"
        wanted = results / "named" / LABEL_MAPS / f"{name}.png"
        if produced.is_file():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            produced.replace(wanted)
    (results / "named").mkdir(exist_ok=True)
    (results / "inference.json").replace(results / "named" / "inference.json")
    outcome = judge_folder(run.name, results / "named", comparison)
    outcome.stage, outcome.precision = run.stage, PRODUCERS[run.stage].precision
    return _with_faults(outcome, run, comparison)


def _with_faults(outcome: Outcome, run: ProducerRun, comparison: Comparison) -> Outcome:
    """The outcome, failed where the bundle has a fault or the program did not run as asked."""
    missing = _shortfall(run, outcome.report) if outcome.report else "it left no report"
    reasons = [f"it did not run as asked: {missing}"] if missing else []
    wrong_input = comparison.wrong_input
    reasons += [wrong_input.text] if wrong_input else []
    reasons += comparison.faults
    if outcome.verdict is not None and outcome.verdict.grade != FAILED and reasons:
        outcome.verdict.grade, outcome.verdict.reason = FAILED, reasons[0]
    return outcome


def _shortfall(run: ProducerRun, report: RuntimeReport) -> str:
    """Why a program ran otherwise than asked; empty where it did not."""
    if run.stage not in WEB:
        return replace(PRODUCERS[run.stage], threads=run.threads).shortfall(report)
    tensor = str(report.details.get("input_tensor"))
    if tensor.partition(":")[0] not in ("equal", "near"):
        return f"its input tensor is {tensor}"
    if report.cpu_threads != run.threads:
        return f"{run.threads} threads were asked for, and the runtime has {report.cpu_threads}"
    return ""
