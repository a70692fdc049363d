r"""Score a checkpoint on labelled images, in dynamic graph.

    python val.py --config YML --model_path output/best_model/model.pdparams --save_dir output/val

Prints PaddleSeg's [EVAL] lines and writes SAVE_DIR/val.json: the integer counts of the run and of
each image, and the scores that follow from them.
"""

import argparse
import sys

from paddleseg_ext.common.errors import UsageError, run_command
from paddleseg_ext.common.files import require_file, require_writable, write_json
from paddleseg_ext.common.flags import (
    add_config_flags,
    add_device_flag,
    boolean,
    make_parser,
    natural_int,
    positive_int,
)
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.config import ABSENT_RULES, Config, load_config
from paddleseg_ext.data.labels import ClassTable
from paddleseg_ext.data.samples import Sample, read_sample_list

RESULT_FILE = "val.json"


def parse_args(argv: list[str]) -> argparse.Namespace:
    """The flags, PaddleSeg's by name."""
    parser = make_parser(__doc__ or "")
    add_config_flags(parser)
    parser.add_argument("--model_path", required=True, metavar="PDPARAMS", help="the checkpoint")
    parser.add_argument(
        "--image_list",
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="score 'image label' lines instead of the yml's val_dataset",
    )
    parser.add_argument(
        "--save_dir", default="output/val", metavar="DIR", help=f"for {RESULT_FILE}"
    )
    parser.add_argument("--batch_size", type=positive_int, default=1, help="images in a run")
    parser.add_argument("--num_workers", type=natural_int, default=0, help="reading threads")
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
        "--absent_class",
        choices=ABSENT_RULES,
        default=argparse.SUPPRESS,
        help="how absent classes count (default: as in the yml)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Check all that can be checked without Paddle, then run."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    config = load_config(args.config, args.opts)
    device = resolve_device(args.device)
    require_file(args.model_path, "--model_path")
    save_dir = require_writable(args.save_dir, "--save_dir")
    image_list = getattr(args, "image_list", None)
    samples = labelled_samples(read_sample_list(image_list), image_list) if image_list else None
    fix_thread_count()

    from paddleseg_ext.data.build import class_table_of
    from paddleseg_ext.evaluation.eager import load_eager
    from paddleseg_ext.evaluation.evaluator import evaluate
    from paddleseg_ext.inference.postprocess import Postprocess
    from paddleseg_ext.inference.preprocess import Preprocess

    preprocess = Preprocess(config.val_dataset.get("transforms") or [])
    if samples is None:
        samples, table = validation_data(config)
    else:
        table = class_table_of(config)
    postprocess = Postprocess(nearest_labels=args.output_op == "argmax")
    backend = load_eager(config, args.model_path, table.num_classes, device)
    evaluation = evaluate(
        backend,
        samples,
        preprocess,
        postprocess,
        table,
        batch_size=args.batch_size,
        absent=getattr(args, "absent_class", config.absent_class),
        num_workers=args.num_workers,
        print_detail=args.print_detail,
    )
    source = {"config": args.config, "model_path": args.model_path, "image_list": image_list}
    result = {
        "source": source,
        "resize_back": postprocess.resize_back,
        "backend": backend.describe(),
        "evaluation": evaluation.to_json(),
    }
    write_json(save_dir / RESULT_FILE, result)
    log(f"scores and counts written to {save_dir / RESULT_FILE}")
    return None


def validation_data(config: Config) -> tuple[list[Sample], ClassTable]:
    """The labelled samples and the class table of `val_dataset:`."""
    from paddleseg_ext.data.build import build_dataset

    dataset = build_dataset(config, "val_dataset")
    return labelled_samples(dataset.samples, f"{config.path}: val_dataset"), dataset.class_table


def labelled_samples(samples: list[Sample], source: str) -> list[Sample]:
    """`samples` if each has a label.

    Raises:
        UsageError: naming how many have none, and the first.
    """
    missing = [sample for sample in samples if sample.label is None]
    if missing:
        raise UsageError(
            f"{source}: {len(missing)} of {len(samples)} images have no label to score against, "
            f"the first is {missing[0].image}"
        )
    return samples


if __name__ == "__main__":
    run_command(main)
