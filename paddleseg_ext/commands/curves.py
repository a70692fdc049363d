"""Draw losses, learning rate and mIoU of training runs, and print the last loss and best mIoU.

    paddleseg-ext curves output/bisenetv1 output/stdc1 --save_path curves.png
    paddleseg-ext curves output/bisenetv1 --text

RUN is the --save_dir of a training; its history.json is read, also while the run is in progress.
Neither needs a display. --text prints the curves as letters, as for a terminal over ssh.
"""

import argparse

from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.training.curves import draw_curves

PICTURE = "curves.png"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `curves`."""
    parser = make_parser(__doc__, "curves")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="--save_dir of a training")
    parser.add_argument(
        "--save_path",
        help=f"ends in .png, .svg or .pdf; {PICTURE} unless --text is given",
    )
    parser.add_argument("--text", action="store_true", help="print the curves")
    parser.add_argument(
        "--l2_loss",
        action="store_true",
        help="draw the loss with the term of weight decay, as bisenetv2-tensorflow logs it",
    )
    return parser


def main(argv: list[str]) -> None:
    """Draw the runs of the command line."""
    arguments = build_parser().parse_args(argv)
    picture = arguments.save_path or (None if arguments.text else PICTURE)
    draw_curves(arguments.runs, picture, arguments.l2_loss, arguments.text)
