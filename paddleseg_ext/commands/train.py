r"""Train the network that a yml describes.

    paddleseg-ext train --config configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml \
        --do_eval --use_vdl --save_dir output/bisenetv1

    python -m paddle.distributed.launch --gpus 0,1,2,3 train.py --config ... --do_eval

SAVE_DIR gets iter_N/ (weights, optimizer, state) every --save_interval iterations, and with
--do_eval best_model/. A run that was interrupted is continued by --resume_model SAVE_DIR/iter_N
(or auto, the newest) and ends in the same weights as one that was not. See docs/training.md.

    paddleseg-ext train --config ... --do_eval --save_dir output/v1 --seeds 0 1 2
    paddleseg-ext train --config ... --save_dir output/d --sweep optimizer.weight_decay=1e-4,5e-4

train one run after the other in sub-folders, which `table` reads. The same command again goes on.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from paddleseg_ext.common import flags
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.studies.several import SeveralOptions, plan_members, train_members
from paddleseg_ext.training.options import TrainOptions, YmlOverrides
from paddleseg_ext.training.train import train

_PADDLESEGS = {
    "--use_ema": "averaged weights are a section of the yml: --opts ema.decay=0.999",
    "--profiler_options": "use --profile N",
    "--repeats": "give more --iters",
    "--data_format": "networks here take (N, C, H, W) only; leave it out",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `train`."""
    parser = flags.make_parser(__doc__, "train")
    flags.add_config_flags(parser)
    flags.add_device_flag(parser)
    add_options(parser, YmlOverrides)
    add_options(parser, TrainOptions)
    add_options(parser, SeveralOptions)
    flags.add_flags_of_paddleseg(parser, _PADDLESEGS)
    return parser


def main(argv: list[str]) -> None:
    """Train as the command line says."""
    arguments = build_parser().parse_args(argv)
    overrides = asdict(read_options(YmlOverrides, arguments))
    options = read_options(TrainOptions, arguments)
    several = read_options(SeveralOptions, arguments)

    def load(opts: Sequence[str] = ()) -> Config:
        return load_config(arguments.config, [*arguments.opts, *opts], **overrides)

    if several.is_several:
        train_members(plan_members(load, options, several), options.save_dir)
    else:
        train(load(), options)
