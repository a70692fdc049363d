r"""Compare an exported bundle with the network it came from, by label maps and integer counts.

The eager network (config and checkpoint, as `val.py` runs it) predicts every image of the list.
Then each way of running the bundle does, and is graded: identical; near-tie (every pixel that
differs is one where the eager network was undecided, each listed); or failed. The evaluation that
was done while training is compared too, and so is what commands left in folders (--results).

SAVE_DIR gets results.json and junit.xml. The exit status is 1 if anything failed.

  python -m paddleseg_ext parity --config YML --model_path output/best_model/model.pdparams \
      --bundle output/inference_model/deploy.yaml --image_list val.list --save_dir output/parity
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paddleseg_ext.checkpoints.store import read_manifest
from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import require_file, require_writable, write_json
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.data.samples import collect_samples
from paddleseg_ext.evaluation.eager import load_eager
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.parity import report
from paddleseg_ext.parity.compare import STAGES, Outcome, candidates, compare_all
from paddleseg_ext.parity.controls import Control, run_controls
from paddleseg_ext.parity.reference import Reference


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    parser.prog = "python -m paddleseg_ext parity"
    flags.add_config_flags(parser)
    parser.add_argument("--model_path", required=True, metavar="PDPARAMS", help="the checkpoint")
    parser.add_argument("--bundle", required=True, metavar="YAML", help="its deploy.yaml")
    parser.add_argument(
        "--image_list", required=True, metavar="PATH",
        help="a list with 'image label' in each line (or an image or folder: no counts then)",
    )  # fmt: skip
    parser.add_argument("--save_dir", default="output/parity", help="gets results.json, junit.xml")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="what to run here"
    )
    parser.add_argument(
        "--cpu_threads", nargs="+", type=flags.positive_int, default=[1, 2],
        help="thread counts of Paddle Inference",
    )  # fmt: skip
    parser.add_argument(
        "--batch_size", nargs="+", type=flags.positive_int, default=[1, 2],
        help="batch sizes of Paddle Inference",
    )  # fmt: skip
    parser.add_argument(
        "--results", nargs="+", default=[], metavar="NAME=DIR",
        help="also compare what val.py, predict.py or infer.py left in their --save_dir",
    )  # fmt: skip
    flags.add_switch(
        parser,
        "--negative_controls",
        "also show the comparison faults that it must notice (a changed weight, a dropped "
        "Normalize, swapped channels, shifted labels), and fail if it does not",
    )
    return parser.parse_args(argv)


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


def main(argv: list[str]) -> int | None:
    """Check what can be checked without Paddle, then compare."""
    arguments = parse_arguments(argv)
    config = load_config(arguments.config, arguments.opts)
    config.section("model")
    require_file(arguments.model_path, "--model_path")
    require_file(arguments.bundle, "--bundle")
    folders = read_folders(arguments.results)
    save_dir = require_writable(arguments.save_dir, "--save_dir")
    fix_thread_count()
    compare(config, arguments, folders, save_dir)
    return None


def compare(
    config: Config, arguments: argparse.Namespace, folders: list[tuple[str, Path]], save_dir: Path
) -> None:
    """Run the comparison and write its results.

    Raises:
        CheckFailed: a run does not agree; the message counts them.
    """
    from paddleseg_ext.data.build import class_table_of

    bundle = read_bundle(arguments.bundle)
    samples = collect_samples(arguments.image_list)
    preprocess = Preprocess(config.val_dataset.get("transforms") or [])
    table = class_table_of(config)
    eager = load_eager(config, arguments.model_path, table.num_classes, "cpu")
    runs = candidates(bundle, arguments.stages, arguments.cpu_threads, arguments.batch_size)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        reference = Reference(eager, samples, preprocess, bundle.output_op, table, Path(folder))
        manifest = read_manifest(arguments.model_path)
        outcomes = compare_all(bundle, reference, runs, folders, manifest)
        controls = []
        if arguments.negative_controls:
            with tempfile.TemporaryDirectory(prefix="controls-") as work:
                controls = run_controls(bundle, reference, Path(work))
    if reference.one_sided():
        warn(f"[PARITY] {reference.one_sided()}")
    source = {name: str(getattr(arguments, name)) for name in ("config", "model_path", "bundle")}
    source["image_list"] = str(arguments.image_list)
    shown = report.results(reference, outcomes, controls, source, config.absent_class)
    write_json(save_dir / "results.json", shown)
    report.write_junit(save_dir / "junit.xml", report.parity_cases(shown))
    log(f"[PARITY] verdict: {shown['grade']} (details in {save_dir / 'results.json'})")
    conclude(outcomes, controls)


def conclude(outcomes: Sequence[Outcome], controls: Sequence[Control]) -> None:
    """Raise `CheckFailed` where a run disagrees or a negative control was not noticed."""
    failed = [o.name for o in outcomes if o.verdict and not o.verdict.passed]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(outcomes)} runs disagree: {', '.join(failed)}")
    missed = [control.name for control in controls if control.caught is False]
    if missed:
        raise CheckFailed(
            f"negative controls not noticed: {', '.join(missed)}; with this network and these "
            "images the comparison proves little"
        )
