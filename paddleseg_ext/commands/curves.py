"""Draw loss and mIoU of training runs, and print the last loss and best mIoU of each.

    paddleseg-ext curves output/bisenetv1 output/stdc1 --save_path curves.png

RUN is the --save_dir of a training; its history.json is read, also while the run is in progress.
"""

import argparse

from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.training.curves import draw_curves


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `curves`."""
    parser = make_parser(__doc__, "curves")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="--save_dir of a training")
    parser.add_argument("--save_path", default="curves.png", help="ends in .png, .svg or .pdf")
    parser.add_argument(
        "--l2_loss",
        action="store_true",
        help="draw the loss with the term of weight decay, as bisenetv2-tensorflow logs it",
    )
    return parser


def main(argv: list[str]) -> None:
    """Draw the runs of the command line."""
    arguments = build_parser().parse_args(argv)
    draw_curves(arguments.runs, arguments.save_path, arguments.l2_loss)
