r"""Score a checkpoint on labelled images, in dynamic graph, by a named protocol.

    python val.py --config YML --model_path output/best_model/model.pdparams --save_dir output/val
    python val.py ... --protocol msf                          # as CoinCheung's BiSeNet is scored
    python val.py ... --protocol slide --crop_size 1024 512 --stride 768 384
    python val.py --compare output/a/val.json output/b/val.json

Prints PaddleSeg's [EVAL] lines and writes SAVE_DIR/val.json: the integer counts of the run and of
each image, and the scores that follow from them. Started by `python -m paddle.distributed.launch`,
every process scores its share and the counts are added up.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, require_writable, write_json
from paddleseg_ext.common.flags import (
    add_config_flags,
    add_device_flag,
    add_switch,
    boolean,
    make_parser,
    natural_int,
    positive_float,
    positive_int,
)
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.progress import track
from paddleseg_ext.config import ABSENT_RULES, Config, load_config
from paddleseg_ext.evaluation.protocol_choice import TEST_CONFIG_KEYS, requested_protocol
from paddleseg_ext.images.samples import Sample, read_sample_list
from paddleseg_ext.scoring.bootstrap import DEFAULT_RESAMPLES
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, OPTIONS_OF, PROTOCOLS, Protocol

if TYPE_CHECKING:
    from paddleseg_ext.distributed.world import World
    from paddleseg_ext.evaluation.evaluator import Evaluation
    from paddleseg_ext.evaluation.extras import ExtraOptions, Extras
    from paddleseg_ext.inference.pipeline import Prediction

RESULT_FILE = "val.json"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = make_parser(__doc__ or "", "val")
    add_config_flags(parser)
    parser.add_argument("--model_path", required=True, metavar="PDPARAMS", help="the checkpoint")
    parser.add_argument(
        "--image_list",
        metavar="LIST",
        help="score 'image label' lines instead of the yml's val_dataset",
    )
    parser.add_argument(
        "--save_dir", default="output/val", metavar="DIR", help=f"for {RESULT_FILE}"
    )
    parser.add_argument("--batch_size", type=positive_int, default=1, help="images in a run")
    parser.add_argument(
        "--num_workers",
        type=natural_int,
        help="threads beside the network's (default: one for each core; 0: none)",
    )
    add_device_flag(parser)
    parser.add_argument(
        "--output_op",
        choices=["none", "argmax"],
        default="none",
        help="argmax: classes return to the image's size by nearest, as from a bundle exported "
        "with --output_op argmax; it matters where preprocessing resizes",
    )
    parser.add_argument(
        "--print_detail", type=boolean, default=True, help="progress and scores on the terminal"
    )
    parser.add_argument(
        "--absent_class", choices=ABSENT_RULES, help="how absent classes count, else as in the yml"
    )
    _add_protocol_flags(parser)
    _add_extra_flags(parser)
    return parser


def _add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        help=f"whose arithmetic; else test_config of the yml, else {DEFAULT_PROTOCOL}",
    )
    add_switch(group, "--aug_eval", "whole, slide: with --scales and --flip_horizontal")
    group.add_argument("--scales", type=positive_float, nargs="+", help="sizes to look at")
    add_switch(group, "--flip_horizontal", "look at the mirrored image, too")
    add_switch(group, "--is_slide", "PaddleSeg's name for --protocol slide")
    group.add_argument(
        "--crop_size", type=positive_int, nargs=2, metavar=("W", "H"), help="sliding: of a crop"
    )
    group.add_argument(
        "--stride",
        type=positive_int,
        nargs=2,
        metavar=("W", "H"),
        help="sliding: from one crop to the next",
    )
    parser.set_defaults(aug_eval=None, flip_horizontal=None, is_slide=None)


def _add_extra_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("more than the counts")
    group.add_argument(
        "--bootstrap",
        type=natural_int,
        default=0,
        metavar="N",
        help="interval of mIoU from N resamples of the images",
    )
    add_switch(group, "--boundary_f1", "how well the classes' outlines agree")
    group.add_argument("--report", metavar="DIR", help="one HTML page with pictures")
    group.add_argument(
        "--save_submission",
        metavar="DIR",
        help="PNGs for the Cityscapes test server. Its script scores labelIds files: to repeat its "
        "figures exactly, --opts val_dataset.label_kind=labelIds",
    )
    group.add_argument(
        "--compare",
        nargs=2,
        metavar=("A.json", "B.json"),
        help="instead of scoring, so without --config and --model_path: two runs side by side "
        "(takes --save_dir and --bootstrap)",
    )


def main(argv: list[str]) -> int | None:
    """Check all that can be checked without Paddle, then run."""
    if any(argument.partition("=")[0] == "--compare" for argument in argv):
        compare_runs(argv)
        return None
    args = build_parser().parse_args(argv)
    config = load_config(args.config, args.opts)
    protocol = chosen_protocol(args, config.test_config)
    device = resolve_device(args.device)
    require_file(args.model_path, "--model_path")
    require_writable(args.save_dir, "--save_dir")
    for flag in ("report", "save_submission"):
        if getattr(args, flag):
            require_writable(getattr(args, flag), f"--{flag}")
    samples = None
    if args.image_list:
        samples = read_sample_list(args.image_list)
        check_labels(samples, args.image_list, args.save_submission)
    fix_thread_count()

    from paddleseg_ext.distributed.world import joined_world

    with joined_world(device) as world:
        score(args, config, protocol, device, samples, world)
    return None


def score(
    args: argparse.Namespace,
    config: Config,
    protocol: Protocol,
    device: str,
    samples: list[Sample] | None,
    world: "World",
) -> None:
    """Run the network on this process's share, gather, print and write."""
    from paddleseg_ext.data.build import build_dataset, class_table_of
    from paddleseg_ext.evaluation.eager import load_eager
    from paddleseg_ext.evaluation.evaluator import evaluate
    from paddleseg_ext.evaluation.extras import Extras
    from paddleseg_ext.evaluation.gather import gather
    from paddleseg_ext.evaluation.prediction_run import check_inputs_stay
    from paddleseg_ext.evaluation.protocols import predict_by_protocol
    from paddleseg_ext.inference.postprocess import Postprocess
    from paddleseg_ext.inference.preprocess import Preprocess

    preprocess = Preprocess(config.val_dataset.get("transforms") or [])
    if samples is None:
        dataset = build_dataset(config, "val_dataset")
        samples, table = dataset.samples, dataset.class_table
        check_labels(samples, f"{config.path}: val_dataset", args.save_submission)
    else:
        table = class_table_of(config)
    extras = Extras(extra_options(args), table, [sample.image for sample in samples])
    if extras.submission is not None:
        outputs = [extras.submission.path_of(sample.image) for sample in samples]
        check_inputs_stay(samples, outputs, "--save_submission")
    postprocess = Postprocess(nearest_labels=args.output_op == "argmax")
    backend = load_eager(config, args.model_path, table.num_classes, device)
    share = world.share_of(samples)
    if samples[0].label is None:
        for flag in ("bootstrap", "boundary_f1", "report"):
            if getattr(args, flag):
                raise UsageError(f"--{flag} needs labels, and these images have none")
        predictions = predict_by_protocol(
            protocol, backend, share, preprocess, postprocess, args.batch_size, args.num_workers
        )
        submit(extras, track(predictions, "predict", total=len(share)))
        return
    part = evaluate(
        backend,
        share,
        preprocess,
        postprocess,
        table,
        batch_size=args.batch_size,
        absent=args.absent_class or config.absent_class,
        num_workers=args.num_workers,
        show_progress=args.print_detail and world.is_first,
        print_scores=False,
        protocol=protocol,
        watch=extras.watch,
    )
    evaluation = gather(part, world, [sample.name for sample in samples], extras)
    if world.is_first:
        about = {"resize_back": postprocess.resize_back, "backend": backend.describe()}
        print_and_write(args, evaluation, extras, about)


def extra_options(args: argparse.Namespace) -> "ExtraOptions":
    """What the flags ask for beside the counts."""
    from paddleseg_ext.evaluation.extras import ExtraOptions

    return ExtraOptions(
        boundary=args.boundary_f1,
        resamples=args.bootstrap,
        report_dir=Path(args.report) if args.report else None,
        submission_dir=Path(args.save_submission) if args.save_submission else None,
    )


def submit(extras: "Extras", predictions: Iterable["Prediction"]) -> None:
    """Only write the submission: the images have no labels, as the test server's."""
    assert extras.submission is not None
    count = extras.submission.add_all(predictions)
    log(f"{count} predictions without labels written to {extras.options.submission_dir}")


def print_and_write(
    args: argparse.Namespace, evaluation: "Evaluation", extras: "Extras", about: dict[str, Any]
) -> None:
    """The `[EVAL]` lines, the JSON and, where it is asked for, the report."""
    figures = extras.figures(evaluation)
    if args.print_detail:
        evaluation.print_lines()
        for line in extras.lines(figures):
            log(line)
    source = {key: getattr(args, key) for key in ("config", "model_path", "image_list")}
    result = {"source": source} | about | {"evaluation": evaluation.to_json()} | figures
    path = Path(args.save_dir) / RESULT_FILE
    write_json(path, result)
    log(f"scores and counts written to {path}")
    if args.report:
        page = extras.write_report(f"Evaluation of {args.model_path}", evaluation, figures)
        log(f"report written to {page}")


def chosen_protocol(args: argparse.Namespace, test_config: dict[str, Any]) -> Protocol:
    """The protocol of the flags; what they leave open is taken from the yml's `test_config:`.

    Raises:
        UsageError: flags that contradict each other or the protocol.
    """
    flags = {key: getattr(args, key) for key in TEST_CONFIG_KEYS if getattr(args, key) is not None}
    if args.protocol is None:
        wanted = test_config | flags
    else:
        # A named protocol is what its name says: the yml's own habits do not change it.
        wanted = flags
        if args.is_slide and args.protocol != "slide":
            raise UsageError(f"--is_slide and --protocol {args.protocol} contradict each other")
    is_plain = args.protocol in (None, "whole", "slide") and not wanted.get("aug_eval")
    if is_plain and (args.scales or args.flip_horizontal):
        raise UsageError("--scales and --flip_horizontal do nothing without --aug_eval")
    protocol = requested_protocol(wanted, args.protocol)
    if protocol.name == "whole" and (args.crop_size or args.stride):
        raise UsageError("--crop_size and --stride do nothing without --is_slide")
    if args.aug_eval and "scales" not in OPTIONS_OF.get(protocol.name, ()):
        raise UsageError(f"--aug_eval does nothing: protocol {protocol.name} fixes scales and flip")
    if args.save_submission and protocol.label_stride > 1:
        raise UsageError(
            f"--save_submission needs whole label maps; protocol {protocol.name} makes them at "
            f"1/{protocol.label_stride} of the size"
        )
    return protocol


def check_labels(samples: Sequence[Sample], source: str, submission: str | None) -> None:
    """Every sample needs its label, or none has one and all that is wanted is a submission.

    Raises:
        UsageError: naming how many have none, and the first.
    """
    missing = [sample for sample in samples if sample.label is None]
    if missing and not (submission and len(missing) == len(samples)):
        raise UsageError(
            f"{source}: {len(missing)} of {len(samples)} images have no label to score against, "
            f"the first is {missing[0].image}"
        )


def compare_runs(argv: list[str]) -> None:
    """`--compare A.json B.json`: prints and writes SAVE_DIR/compare.json."""
    from paddleseg_ext.evaluation.compare import compare, comparison_lines, read_evaluation

    parser = make_parser("Two scored runs side by side.")
    parser.add_argument("--compare", nargs=2, required=True, metavar=("A.json", "B.json"))
    parser.add_argument("--save_dir", metavar="DIR", help="for compare.json")
    parser.add_argument("--bootstrap", type=positive_int, default=DEFAULT_RESAMPLES, metavar="N")
    args = parser.parse_args(argv)
    first, second = (read_evaluation(path) for path in args.compare)
    result = {"files": args.compare} | compare(first, second, args.bootstrap)
    for line in comparison_lines(result):
        print(line)
    if args.save_dir:
        write_json(require_writable(args.save_dir, "--save_dir") / "compare.json", result)
