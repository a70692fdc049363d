r"""Score a checkpoint on labelled images, in dynamic graph, by a named protocol.

    python val.py --config YML --model_path output/best_model/model.pdparams --save_dir output/val
    python val.py ... --protocol msf                          # as CoinCheung's BiSeNet is scored
    python val.py ... --protocol slide --crop_size 1024 512 --stride 768 384
    python val.py --compare output/a/val.json output/b/val.json
    python val.py --compare output/a/val.json output/b/val.json --report output/page

Prints PaddleSeg's [EVAL] lines and writes SAVE_DIR/val.json: the integer counts of the run and of
each image, and the scores that follow from them. Started by `python -m paddle.distributed.launch`,
every process scores its share and the counts are added up.
"""

import argparse
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from paddleseg_ext.checkpoints.manifest import configuration_for
from paddleseg_ext.common.errors import STATUS_DONE, STATUS_FAILED
from paddleseg_ext.common.files import require_file, require_writable, write_json, write_text
from paddleseg_ext.common.flags import (
    add_config_flags,
    add_device_flag,
    add_flags_of_paddleseg,
    make_parser,
    positive_int,
)
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.options import add_options, option, read_options, switch
from paddleseg_ext.evaluation.protocol_choice import (
    AUC_ROC,
    ProtocolFlags,
    require_whole_maps,
    rule_of,
    say_rule,
)
from paddleseg_ext.scoring.bootstrap import DEFAULT_RESAMPLES


@dataclass(frozen=True)
class ValOptions:
    """How a checkpoint is scored."""

    model_path: str = option(MISSING, "the checkpoint", metavar="PDPARAMS")
    image_list: str | None = option(
        None, "score 'image label' lines instead of the yml's val_dataset", metavar="LIST"
    )
    save_dir: Path = option(Path("output/val"), "folder of val.json", metavar="DIR")
    batch_size: int = option(1, "images per run", at_least=1)
    num_workers: int | None = option(
        None, "threads beside the network's (default: one per core; 0: none)", at_least=0
    )
    output_op: Literal["none", "argmax"] = option(
        "none",
        "argmax: classes return to the image's size by nearest, as from a bundle exported "
        "with --output_op argmax; it matters where preprocessing resizes",
    )
    print_detail: bool = option(True, "progress and scores on the terminal")
    bootstrap: int = option(
        0, "interval of mIoU from N resamples of the images", at_least=0, metavar="N"
    )
    auc_roc: bool = switch("area under the ROC curve, each class against the others")
    boundary_f1: bool = switch("how well the classes' outlines agree")
    boundary_iou: bool = switch(
        "IoU of the classes within 0.02 of the diagonal from their outlines"
    )
    report: Path | None = option(
        None,
        "folder of an HTML page: what each class is confused with, objects by size and pixels by "
        "distance (where there are instance ids or depth), images by loss, pictures; keeps "
        "SAVE_DIR/label_maps for --compare",
        metavar="DIR",
    )
    save_submission: Path | None = option(
        None,
        "PNGs for the Cityscapes test server. Its script scores labelIds files: to repeat its "
        "figures exactly, --opts val_dataset.label_kind=labelIds",
        metavar="DIR",
    )


_PADDLESEGS = {
    "--flip_vertical": "no protocol here has it; leave it out",
    "--data_format": "networks here take (N, C, H, W) only; leave it out",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `val`."""
    parser = make_parser(__doc__, "val")
    add_config_flags(parser, required=False)
    add_options(parser, ValOptions)
    add_options(parser.add_argument_group("protocol"), ProtocolFlags)
    add_device_flag(parser)
    add_flags_of_paddleseg(parser, _PADDLESEGS)
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A.json", "B.json"),
        help="instead of scoring, so without --config and --model_path: two runs side by side "
        "(takes --save_dir, --report and --bootstrap)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Check all that can be checked without Paddle, then score."""
    if any(argument.partition("=")[0] == "--compare" for argument in argv):
        compare_runs(argv)
        return STATUS_DONE
    args = build_parser().parse_args(argv)
    options = read_options(ValOptions, args)
    config = configuration_for(options.model_path, args.config, args.opts)
    require_file(options.model_path, "--model_path")
    flags = read_options(ProtocolFlags, args)
    rule = rule_of(flags, config)
    if options.save_submission:
        require_whole_maps(rule, "--save_submission")
    device = resolve_device(args.device)
    fix_thread_count()

    from paddleseg_ext.evaluation.extras import ExtraOptions
    from paddleseg_ext.evaluation.scoring_run import ScoringOptions, score_checkpoint

    say_rule(rule, flags, config)
    scoring = read_options(
        ScoringOptions,
        args,
        device=device,
        protocol=rule.make(),
        absent=rule.absent_class,
        nearest_labels=options.output_op == "argmax",
        extras=ExtraOptions(
            boundary_f1=options.boundary_f1,
            boundary_iou=options.boundary_iou,
            resamples=options.bootstrap,
            report_dir=options.report,
            submission_dir=options.save_submission,
            auc_roc=options.auc_roc or bool(config.test_config.get(AUC_ROC)),
        ),
        source={key: getattr(args, key) for key in ("config", "model_path", "image_list")},
    )
    evaluation = score_checkpoint(config, options.model_path, scoring)
    return STATUS_FAILED if evaluation is not None and evaluation.failed else STATUS_DONE


def compare_runs(argv: list[str]) -> None:
    """`--compare A.json B.json`: prints; writes SAVE_DIR/compare.json and REPORT/compare.html."""
    from paddleseg_ext.evaluation.compare import compare, comparison_lines, read_evaluation

    parser = make_parser("Two scored runs side by side.")
    parser.add_argument("--compare", nargs=2, required=True, metavar=("A.json", "B.json"))
    parser.add_argument("--save_dir", metavar="DIR", help="for compare.json")
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="for compare.html: pixels gained and lost, with pictures, of runs with --report",
    )
    parser.add_argument("--bootstrap", type=positive_int, default=DEFAULT_RESAMPLES, metavar="N")
    args = parser.parse_args(argv)
    first, second = (read_evaluation(path) for path in args.compare)
    result = {"files": args.compare} | compare(first, second, args.bootstrap)
    lines = comparison_lines(result)
    for line in lines:
        print(line)
    if args.report:
        from paddleseg_ext.evaluation.compare_page import comparison_html, read_run

        runs = [read_run(path) for path in args.compare]
        page = require_writable(args.report, "--report") / "compare.html"
        write_text(page, comparison_html("Two runs", result, runs[0], runs[1], lines))
        log(f"report written to {page}")
    if args.save_dir:
        write_json(require_writable(args.save_dir, "--save_dir") / "compare.json", result)
