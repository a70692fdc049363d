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
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

from paddleseg_ext.checkpoints.manifest import configuration_for
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, require_writable, write_json
from paddleseg_ext.common.flags import add_config_flags, add_device_flag, make_parser, positive_int
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.options import add_options, option, read_options, switch
from paddleseg_ext.evaluation.protocol_choice import TEST_CONFIG_KEYS, requested_protocol
from paddleseg_ext.scoring.bootstrap import DEFAULT_RESAMPLES
from paddleseg_ext.scoring.metrics import AbsentRule
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, OPTIONS_OF, PROTOCOLS, Protocol


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
    absent_class: AbsentRule | None = option(
        None, "how absent classes count (default: as in the yml)"
    )
    protocol: str | None = option(
        None,
        f"whose arithmetic (default: test_config of the yml, else {DEFAULT_PROTOCOL})",
        choices=list(PROTOCOLS),
    )
    aug_eval: bool | None = switch("whole, slide: with --scales and --flip_horizontal", None)
    scales: list[float] | None = option(None, "sizes to look at", above=0)
    flip_horizontal: bool | None = switch("look at the mirrored image, too", None)
    is_slide: bool | None = switch("PaddleSeg's name for --protocol slide", None)
    crop_size: list[int] | None = option(
        None, "sliding: of a crop", at_least=1, nargs=2, metavar=("W", "H")
    )
    stride: list[int] | None = option(
        None, "sliding: from one crop to the next", at_least=1, nargs=2, metavar=("W", "H")
    )
    bootstrap: int = option(
        0, "interval of mIoU from N resamples of the images", at_least=0, metavar="N"
    )
    boundary_f1: bool = switch("how well the classes' outlines agree")
    report: Path | None = option(None, "folder of an HTML page with pictures", metavar="DIR")
    save_submission: Path | None = option(
        None,
        "PNGs for the Cityscapes test server. Its script scores labelIds files: to repeat its "
        "figures exactly, --opts val_dataset.label_kind=labelIds",
        metavar="DIR",
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `val`."""
    parser = make_parser(__doc__, "val")
    add_config_flags(parser, required=False)
    add_options(parser, ValOptions)
    add_device_flag(parser)
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A.json", "B.json"),
        help="instead of scoring, so without --config and --model_path: two runs side by side "
        "(takes --save_dir and --bootstrap)",
    )
    return parser


def main(argv: list[str]) -> None:
    """Check all that can be checked without Paddle, then score."""
    if any(argument.partition("=")[0] == "--compare" for argument in argv):
        compare_runs(argv)
        return
    args = build_parser().parse_args(argv)
    options = read_options(ValOptions, args)
    config = configuration_for(options.model_path, args.config, args.opts)
    require_file(options.model_path, "--model_path")
    protocol = chosen_protocol(options, config.test_config)
    device = resolve_device(args.device)
    fix_thread_count()

    from paddleseg_ext.evaluation.extras import ExtraOptions
    from paddleseg_ext.evaluation.scoring_run import ScoringOptions, score_checkpoint

    scoring = read_options(
        ScoringOptions,
        args,
        device=device,
        protocol=protocol,
        absent=options.absent_class,
        nearest_labels=options.output_op == "argmax",
        extras=ExtraOptions(
            options.boundary_f1, options.bootstrap, options.report, options.save_submission
        ),
        source={key: getattr(args, key) for key in ("config", "model_path", "image_list")},
    )
    score_checkpoint(config, options.model_path, scoring)


def chosen_protocol(options: ValOptions, test_config: dict[str, Any]) -> Protocol:
    """The protocol of the flags; what they leave open is taken from the yml's `test_config:`.

    Raises:
        UsageError: flags that contradict each other or the protocol.
    """
    flags = {
        key: getattr(options, key) for key in TEST_CONFIG_KEYS if getattr(options, key) is not None
    }
    if options.protocol is None:
        wanted = test_config | flags
    else:
        # A named protocol is what its name says: the yml's own habits do not change it.
        wanted = flags
        if options.is_slide and options.protocol != "slide":
            raise UsageError(f"--is_slide and --protocol {options.protocol} contradict each other")
    is_plain = options.protocol in (None, "whole", "slide") and not wanted.get("aug_eval")
    if is_plain and (options.scales or options.flip_horizontal):
        raise UsageError("--scales and --flip_horizontal do nothing without --aug_eval")
    protocol = requested_protocol(wanted, options.protocol)
    if protocol.name == "whole" and (options.crop_size or options.stride):
        raise UsageError("--crop_size and --stride do nothing without --is_slide")
    if options.aug_eval and "scales" not in OPTIONS_OF.get(protocol.name, ()):
        raise UsageError(f"--aug_eval does nothing: protocol {protocol.name} fixes scales and flip")
    if options.save_submission and protocol.label_stride > 1:
        raise UsageError(
            f"--save_submission needs whole label maps; protocol {protocol.name} makes them at "
            f"1/{protocol.label_stride} of the size"
        )
    return protocol


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
