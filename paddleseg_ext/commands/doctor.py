r"""Print the parameters, multiply-adds and output strides of a yml's network.

  paddleseg-ext doctor --config X.yml --input_shape 1 3 1024 2048
  paddleseg-ext doctor --environment     # versions, processor, engines: for a report of a fault

Counted while the network runs once in inference mode: convolutions and linear layers, a
multiplication and its addition as one. Parameters of auxiliary heads are counted apart, because
inference does not need them. docs/networks.md compares the counts with the published ones. A yml
that `train` would refuse is refused here, too; its data may be missing.
"""

import argparse

from paddleseg_ext.common import flags
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.config import load_config
from paddleseg_ext.inference.environment import environment_lines


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `doctor`."""
    parser = flags.make_parser(__doc__, "doctor")
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--config", metavar="YML", help="the network's configuration")
    subject.add_argument(
        "--environment",
        action="store_true",
        help="print versions, the processor and the engines instead, in one paste",
    )
    flags.add_opts_flag(parser)
    flags.add_input_shape_flag(parser, "of the images")
    return parser


def main(argv: list[str]) -> None:
    """Build the network and print its counts."""
    args = build_parser().parse_args(argv)
    if args.environment:
        print("\n".join(environment_lines()))
        return
    fix_thread_count()
    config = load_config(args.config, args.opts)
    from paddleseg_ext.data.build import class_table_of
    from paddleseg_ext.export.cost import diagnose
    from paddleseg_ext.export.options import with_channels
    from paddleseg_ext.models.build import build_model
    from paddleseg_ext.training.plan import check_training

    check_training(config)
    num_classes = config.model.get("num_classes") or class_table_of(config).num_classes
    model = build_model(config, num_classes)
    shape = list(with_channels(args.input_shape, config.img_channels))
    print("\n".join(diagnose(model, shape).lines(shape)))
