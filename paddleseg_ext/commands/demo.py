"""The whole way on the embedded data set: train, score, export, infer, prove, report.

Runs this package's own verbs one after the other, as a user would, and writes what came of them
to SAVE_DIR/report.html, one self-contained file. Needs no data, no GPU and no network; takes a few
minutes on two cores, and with --quick about one.
"""

import argparse
import time

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.demo.run import DemoOptions, run_demo


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `demo`."""
    parser = flags.make_parser(__doc__, "demo")
    add_options(parser, DemoOptions)
    return parser


def main(argv: list[str]) -> int | None:
    """Run the demo and print its verdict.

    Raises:
        CheckFailed: the deployed network does not agree with the trained one.
    """
    started = time.perf_counter()
    result = run_demo(read_options(DemoOptions, build_parser().parse_args(argv)))
    minutes = (time.perf_counter() - started) / 60
    log(
        f"[DEMO] verdict: {result.grade}; validation mIoU {result.mean_iou:.4f}; "
        f"{minutes:.1f} minutes; {result.report}"
    )
    if not result.agrees:
        raise CheckFailed(
            f"the deployed network does not agree with the trained one; {result.report}"
        )
    return None
