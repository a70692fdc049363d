"""Fit temperatures to a bundle's logits, so that its confidence is what it says.

Held-back labelled images are needed, none of the training. The first half of the list fits, the
second half judges. Where the likelihood of the second half rises, the temperature is written into
the bundle's deploy.yaml; otherwise the bundle keeps what it had, and the exit status is 1. Label
maps do not change. SAVE_DIR/calibration.json has ECE, class-wise ECE, Brier score, likelihood and
risk by coverage before and after, with intervals (bootstrap over images), SAVE_DIR/calibration.png
the reliability diagram and the risk-coverage curve.

With --train_data the bundle also gets what `infer --save_familiarity` needs, whatever becomes of
the temperature: a second score, low where objects are that training never saw. --unknown_data
measures that.

  paddleseg-ext calibrate --config output/export/deploy.yaml --data held_back.list
"""

import argparse

from paddleseg_ext.commands.runtime_flags import RuntimeFlags, runtime_of
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.evaluation.calibration import (
    CalibrateOptions,
    calibrate,
    labelled_for,
)
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.predictor import Predictor


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `calibrate`."""
    parser = make_parser(__doc__, "calibrate")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--data", required=True, metavar="LIST", help="'image label' in each line; held back"
    )
    add_options(parser, CalibrateOptions)
    add_options(parser.add_argument_group("runtime"), RuntimeFlags)
    return parser


def main(argv: list[str]) -> None:
    """Fit, judge and write."""
    args = build_parser().parse_args(argv)
    bundle = read_bundle(args.config)
    samples = labelled_for(bundle, collect_samples(args.data), f"--data: {args.data}")
    options = read_options(CalibrateOptions, args)
    require_writable(bundle.deploy_file.parent, "--config")
    require_writable(options.save_dir, "--save_dir")
    spec = runtime_of(read_options(RuntimeFlags, args), bundle)
    with Predictor.of_bundle(bundle, spec) as predictor:
        calibrate(predictor, samples, options)
