r"""Compare ways of running one network, by label maps and integer counts.

The eager network (config and checkpoint, as `val.py` runs it) predicts every image of the list.
Then each stage runs the exported bundle, and is graded: identical; near-tie (every pixel that
differs is one where the eager network was undecided, each listed); within-budget (no more differs
than the budget of the stage's precision allows); or failed. The first place at which a run leaves
the eager network is named. A stage that fell back to something else fails, whatever it answered,
and so does every run of a bundle that was exported from another checkpoint.
The evaluation that was done while training is compared too, and so is what commands left in
folders (--results).

Without --bundle the checkpoint is exported first. Without --model_path the first stage is what the
others are compared with: so an ONNX file from elsewhere (--onnx) can be checked.

SAVE_DIR gets report.html, results.json and junit.xml; a bundle of ours keeps each backend's verdict
(Manifest.verified). The exit status is 1 if anything failed, or
if nothing was compared.

  paddleseg-ext parity --config YML --model_path output/best_model/model.pdparams \
      --bundle output/inference_model/deploy.yaml --image_list val.list --save_dir output/parity
  paddleseg-ext parity --onnx net.onnx --config YML --image_list val.list \
      --stages onnxruntime,openvino
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from numpy.typing import NDArray

from paddleseg_ext.checkpoints.store import read_manifest
from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import (
    require_file,
    require_writable,
    write_json,
    write_text,
)
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.evaluation.eager import EagerNetwork, load_eager
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.samples import collect_samples, image_sizes
from paddleseg_ext.inference.bundle import (
    DEPLOY_FILE,
    Bundle,
    bundle_for_onnx,
    read_bundle,
)
from paddleseg_ext.inference.engines.base import Backend
from paddleseg_ext.inference.postprocess import OUTPUT_OPS
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.parity import page, report
from paddleseg_ext.parity.budgets import read_budgets
from paddleseg_ext.parity.checkpoint import Checkpoint
from paddleseg_ext.parity.compare import Comparison, Outcome, candidates, compare_all
from paddleseg_ext.parity.controls import Control, run_controls
from paddleseg_ext.parity.divergence import Evidence
from paddleseg_ext.parity.record import record
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.stages import (
    DEFAULT_LEGACY_STAGES,
    DEFAULT_STAGES,
    EAGER,
    ONNX_RUNTIMES,
    STAGES,
    Stage,
    parse_stages,
)
from paddleseg_ext.parity.static_graph import open_stage


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "", "parity")
    parser.add_argument(
        "--config", default=None, metavar="YML",
        help="the network's configuration; may be left out where a bundle of ours is compared "
        "without its checkpoint",
    )  # fmt: skip
    flags.add_opts_flag(parser)
    parser.add_argument(
        "--model_path", "--weights", default=None, metavar="PDPARAMS",
        help="the checkpoint; without it the first stage is the reference",
    )  # fmt: skip
    graph = parser.add_mutually_exclusive_group()
    graph.add_argument(
        "--bundle", default=None, metavar="YAML",
        help="deploy.yaml of the exported network (default: export it into SAVE_DIR/bundle)",
    )  # fmt: skip
    graph.add_argument("--onnx", default=None, metavar="FILE", help="an ONNX graph from elsewhere")
    parser.add_argument(
        "--output_op", choices=OUTPUT_OPS, default="none",
        help="what the graph of --onnx ends in",
    )  # fmt: skip
    parser.add_argument(
        "--image_list", "--data", required=True, metavar="PATH",
        help="a list with 'image label' in each line (or an image or folder: no counts then)",
    )  # fmt: skip
    parser.add_argument(
        "--save_dir", default="output/parity", help="gets report.html, results.json, junit.xml"
    )
    _add_how_flags(parser)
    return parser.parse_args(argv)


def _add_how_flags(parser: argparse.ArgumentParser) -> None:
    """What is run, how it is judged, and what becomes of it."""
    parser.add_argument(
        "--stages", nargs="+", default=None, metavar="STAGE",
        help=f"what to run here, separated by commas or spaces: {', '.join(STAGES)} "
        f"(default: {' '.join(DEFAULT_STAGES)})",
    )  # fmt: skip
    parser.add_argument(
        "--cpu_threads", nargs="+", type=flags.positive_int, default=[1, 2],
        help="thread counts of every runtime",
    )  # fmt: skip
    parser.add_argument(
        "--batch_size", nargs="+", type=flags.positive_int, default=[1, 2],
        help="batch sizes of every runtime",
    )  # fmt: skip
    parser.add_argument(
        "--budgets", default=None, metavar="YML",
        help="what each precision may differ by, where it is not paddleseg_ext/parity/budgets.yml",
    )  # fmt: skip
    parser.add_argument(
        "--results", action="extend", nargs="+", default=[], metavar="NAME=DIR",
        help="also compare what val.py, predict.py or infer.py left in their --save_dir",
    )  # fmt: skip
    flags.add_switch(
        parser,
        "--negative_controls",
        "also show the comparison faults that it must notice (a changed weight, a stale "
        "checkpoint, a dropped Normalize, swapped channels, shifted labels, a wrong fuse pass), "
        "and fail if it does not, or calls one by another name; INT8 stages are shown them, too",
    )


def read_folders(pairs: list[str]) -> list[tuple[str, Path]]:
    """`NAME=DIR` each.

    Raises:
        UsageError: no `=`, a name that stands twice, or not a folder.
    """
    folders = []
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or not Path(folder).is_dir():
            raise UsageError(f"--results: NAME=DIR with an existing folder is expected: '{pair}'")
        folders.append((name, Path(folder)))
    twice = [name for name, times in Counter(name for name, _ in folders).items() if times > 1]
    if twice:
        raise UsageError(f"--results: the name '{twice[0]}' stands twice")
    return folders


def check_stages(stages: Sequence[Stage], arguments: argparse.Namespace) -> None:
    """Refuse what cannot be compared, before Paddle is imported.

    Raises:
        UsageError: a stage that needs a checkpoint or a graph of Paddle's, or nothing to compare.
    """
    names = [stage.name for stage in stages]
    if arguments.model_path is None:
        if arguments.bundle is None and arguments.onnx is None:
            raise UsageError("one of --model_path, --bundle and --onnx is expected")
        if EAGER in names:
            raise UsageError("--stages: eager needs the network's checkpoint: give --model_path")
        if len(names) < 2 and not arguments.results:
            raise UsageError(
                "--stages: without --model_path the first stage is what others are compared with; "
                f"at least two are expected, got {', '.join(names)}"
            )
    elif arguments.config is None:
        raise UsageError("--model_path needs the network's --config")
    elif names == [EAGER] and not arguments.results:
        raise UsageError(
            "--stages: eager is what others are compared with; name one more "
            f"({', '.join(DEFAULT_STAGES)}, ...), or give --results"
        )
    if arguments.onnx is None:
        return
    of_paddle = [stage.name for stage in stages if stage.runtime not in ONNX_RUNTIMES]
    if of_paddle:
        raise UsageError(f"--stages: {of_paddle[0]} cannot run --onnx; use onnxruntime or openvino")


def main(argv: list[str]) -> int | None:
    """Check what can be checked without Paddle, then compare."""
    arguments = parse_arguments(argv)
    stages = parse_stages(arguments.stages or DEFAULT_STAGES)
    check_stages(stages, arguments)
    config = load_config(arguments.config, arguments.opts) if arguments.config else None
    if arguments.bundle is not None and Path(arguments.bundle).is_dir():
        arguments.bundle = str(Path(arguments.bundle) / DEPLOY_FILE)
    for name in ("model_path", "bundle", "onnx"):
        if getattr(arguments, name) is not None:
            require_file(getattr(arguments, name), f"--{name}")
    if arguments.model_path is not None and config is not None:
        config.section("model")
    collect_samples(arguments.image_list)
    arguments.budgets = read_budgets(arguments.budgets)
    folders = read_folders(arguments.results)
    save_dir = require_writable(arguments.save_dir, "--save_dir")
    fix_thread_count()
    subject = open_subject(arguments, config, save_dir)
    if arguments.stages is None and subject.bundle.is_legacy:
        stages = parse_stages(DEFAULT_LEGACY_STAGES)
    compare(subject, arguments, stages, folders, save_dir)
    return None


@dataclass(frozen=True)
class Subject:
    """What is compared.

    Attributes:
        config: None where a bundle speaks for itself.
        weights: the checkpoint; None where a graph is all there is.
    """

    bundle: Bundle
    table: ClassTable
    config: Config | None = None
    weights: str | None = None


def open_subject(arguments: argparse.Namespace, config: Config | None, save_dir: Path) -> Subject:
    """The bundle, read, wrapped around an ONNX file, or exported; and its classes.

    Raises:
        UsageError: nobody says which classes there are.
    """
    from paddleseg_ext.data.build import class_table_of

    table = class_table_of(config) if config else None
    if arguments.onnx is not None:
        transforms = config.val_dataset.get("transforms") or [] if config else []
        bundle = bundle_for_onnx(arguments.onnx, transforms, arguments.output_op)
    elif arguments.bundle is not None:
        bundle = read_bundle(arguments.bundle)
    else:
        assert config is not None and table is not None  # `check_stages` saw to it
        bundle = _export(config, arguments, save_dir / "bundle")
    if table is None:
        if bundle.manifest is None:
            raise UsageError(
                f"{bundle.deploy_file} does not say which classes there are: give --config"
            )
        table = bundle.manifest.class_table
    return Subject(bundle, table, config, arguments.model_path)


def _export(config: Config, arguments: argparse.Namespace, folder: Path) -> Bundle:
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    log(f"no --bundle: {arguments.model_path} is exported into {folder}")
    stages = parse_stages(arguments.stages or DEFAULT_STAGES)
    onnx = any(stage.runtime in ONNX_RUNTIMES for stage in stages)
    return read_bundle(export(config, arguments.model_path, ExportOptions(folder, onnx=onnx)))


@contextmanager
def open_comparison(
    subject: Subject, arguments: argparse.Namespace, stages: Sequence[Stage]
) -> Iterator[Comparison]:
    """Run the reference over all images; its label maps lie in a folder that goes in the end."""
    bundle, config = subject.bundle, subject.config
    # Only images of one size can share a batch, so those of one size stand together.
    samples = sorted(
        collect_samples(arguments.image_list), key=lambda sample: image_sizes([sample.image])
    )
    evidence, stale = Evidence(bundle.transforms), ""
    preprocess = bundle.preprocess()
    if subject.weights is not None and config is not None:
        transforms = config.val_dataset.get("transforms") or []
        preprocess = Preprocess(transforms)
        eager = load_eager(config, subject.weights, subject.table.num_classes, "cpu")
        checkpoint = Checkpoint(subject.weights, partial(_tensors_of, eager))
        evidence, stale = Evidence(transforms, checkpoint), checkpoint.why_stale(bundle)
        backend: Backend = eager
        name = EAGER
    else:
        first = stages[0]
        backend = open_stage(bundle, first)
        name = first.name
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        reference = Reference(
            backend, samples, preprocess, bundle.output_op, subject.table, Path(folder), name
        )
        yield Comparison(bundle, reference, arguments.budgets, evidence, stale)


def _tensors_of(eager: EagerNetwork) -> list[NDArray]:
    return [tensor.numpy() for tensor in eager.model.state_dict().values()]


def compare(
    subject: Subject,
    arguments: argparse.Namespace,
    stages: Sequence[Stage],
    folders: list[tuple[str, Path]],
    save_dir: Path,
) -> None:
    """Run the comparison and write its results.

    Raises:
        CheckFailed: a run does not agree; the message counts them.
    """
    with open_comparison(subject, arguments, stages) as comparison:
        reference, stale = comparison.reference, comparison.stale
        if stale:
            warn(f"[PARITY] {stale}")
        others = [stage for stage in stages if stage.name != reference.stage]
        runs = candidates(
            subject.bundle,
            others,
            arguments.cpu_threads,
            arguments.batch_size,
            reference.samples,
        )
        manifest = read_manifest(subject.weights) if subject.weights else None
        outcomes = compare_all(comparison, runs, folders, manifest)
        controls: list[Control] = []
        if arguments.negative_controls:
            with tempfile.TemporaryDirectory(prefix="controls-") as work:
                controls = run_controls(comparison, others, Path(work))
        absent = subject.config.absent_class if subject.config else "skip"
        shown = report.results(comparison, outcomes, controls, _source(arguments, subject), absent)
    notes = [note for note in (stale, reference.one_sided()) if note]
    if reference.one_sided():
        warn(f"[PARITY] {reference.one_sided()}")
    write_json(save_dir / "results.json", shown)
    report.write_junit(save_dir / "junit.xml", report.parity_cases(shown))
    write_text(save_dir / "report.html", page.page(shown, outcomes, notes))
    log(f"[PARITY] verdict: {shown['grade']} (details in {save_dir / 'report.html'})")
    record(subject.bundle, outcomes, stale)
    conclude(outcomes, controls, stale)


def _source(arguments: argparse.Namespace, subject: Subject) -> dict[str, str]:
    given = {name: getattr(arguments, name) for name in ("config", "model_path", "image_list")}
    given["bundle"] = subject.bundle.deploy_file
    return {name: str(value) for name, value in given.items() if value is not None}


def conclude(outcomes: Sequence[Outcome], controls: Sequence[Control], stale: str = "") -> None:
    """Say in one line what failed.

    Raises:
        CheckFailed: a run disagrees, none was judged, or a negative control was not noticed.
    """
    if not any(outcome.verdict for outcome in outcomes):
        why = "; ".join(f"{outcome.name}: {outcome.note}" for outcome in outcomes)
        raise CheckFailed(f"nothing was compared ({why or 'no run'})")
    failed = [o.name for o in outcomes if o.verdict and not o.verdict.passed]
    if failed:
        why = f" ({stale})" if stale else ""
        raise CheckFailed(
            f"{len(failed)} of {len(outcomes)} runs disagree: {', '.join(failed)}{why}"
        )
    if stale:
        raise CheckFailed(stale)
    missed = [control.title for control in controls if control.caught is False]
    if missed:
        raise CheckFailed(
            f"negative controls not noticed: {', '.join(missed)}; with this network and these "
            "images the comparison proves little"
        )
