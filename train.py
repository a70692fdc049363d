#!/usr/bin/env python3
r"""Train the network that a yml describes.

    python train.py --config configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml \
        --do_eval --use_vdl --save_dir output/bisenetv1

    python -m paddle.distributed.launch --gpus 0,1,2,3 train.py --config ... --do_eval

SAVE_DIR gets iter_N/ (weights, optimizer, state) every --save_interval iterations, and with
--do_eval best_model/. A run that was interrupted goes on with --resume_model SAVE_DIR/iter_N (or
auto, the newest) and ends in the same weights as one that was not.
"""

import argparse
import os
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import run_command
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.machine import fix_thread_count, let_waiting_threads_sleep, resolve_device
from paddleseg_ext.config import Config, load_config


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    flags.add_config_flags(parser)
    flags.add_device_flag(parser)
    yml = "as in the yml"
    parser.add_argument("--iters", type=flags.positive_int, help=f"iterations ({yml} unless given)")
    parser.add_argument(
        "--batch_size", type=flags.positive_int, help=f"samples a process and iteration ({yml})"
    )
    parser.add_argument("--learning_rate", type=flags.positive_float, help=f"base rate ({yml})")
    parser.add_argument("--save_dir", type=Path, default=Path("output"), help="the run's folder")
    parser.add_argument(
        "--save_interval",
        type=flags.positive_int,
        default=1000,
        help="iterations between checkpoints and, with --do_eval, evaluations",
    )
    parser.add_argument(
        "--log_iters", type=flags.positive_int, default=10, help="iterations between log lines"
    )
    parser.add_argument(
        "--num_workers",
        type=flags.natural_int,
        default=0,
        help="processes that read and augment samples; 0 uses a thread",
    )
    flags.add_switch(parser, "--do_eval", "evaluate at every checkpoint and keep best_model/")
    flags.add_switch(parser, "--use_vdl", "write a VisualDL log to SAVE_DIR/vdl")
    parser.add_argument(
        "--seed",
        type=flags.natural_int,
        default=0,
        help="of weights, order and augmentation; same seed, same machine: same result to the bit",
    )
    parser.add_argument(
        "--resume_model", metavar="DIR", help="go on from this iter_N folder, or 'auto'"
    )
    parser.add_argument(
        "--keep_checkpoint_max", type=flags.positive_int, default=5, help="iter_N folders kept"
    )
    parser.add_argument(
        "--precision",
        choices=["fp32"],
        default="fp32",
        help="as TIPC passes it; training is fp32",
    )
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> Config:
    """All that can be found wrong without Paddle, which takes seconds to import."""
    from paddleseg_ext.training.optimizer import OptimizerOptions
    from paddleseg_ext.training.run_folder import find_resume_folder, read_state
    from paddleseg_ext.training.schedules import build_schedule

    config = load_config(
        arguments.config,
        arguments.opts,
        iters=arguments.iters,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    )
    for section in ("model", "train_dataset", "loss", "optimizer", "lr_scheduler"):
        config.section(section)
    if arguments.do_eval:
        config.section("val_dataset")
    OptimizerOptions.from_section(config.optimizer)
    build_schedule(config.lr_scheduler, config.iters)
    if arguments.resume_model:
        folder = find_resume_folder(arguments.resume_model, arguments.save_dir)
        if folder is not None:
            read_state(folder)
    require_writable(arguments.save_dir, "--save_dir")
    return config


def main() -> int | None:
    """Parse, check, train."""
    arguments = parse_arguments()
    device = resolve_device(arguments.device)
    config = check(arguments)
    threads = fix_thread_count()
    let_waiting_threads_sleep()

    from paddleseg_ext.data.build import build_dataset
    from paddleseg_ext.data.validate import require_sound

    dataset = build_dataset(config, "train_dataset")
    validation = build_dataset(config, "val_dataset") if arguments.do_eval else None
    if os.environ.get("PADDLE_TRAINER_ID", "0") == "0":  # once, when there are several processes
        require_sound(dataset, "train_dataset")
        if validation is not None:
            require_sound(validation, "val_dataset")

    from paddleseg_ext.training.options import TrainOptions
    from paddleseg_ext.training.trainer import train
    from paddleseg_ext.training.validation import make_validation

    options = TrainOptions(
        save_dir=arguments.save_dir,
        device=device,
        seed=arguments.seed,
        save_interval=arguments.save_interval,
        log_iters=arguments.log_iters,
        num_workers=arguments.num_workers,
        keep_checkpoint_max=arguments.keep_checkpoint_max,
        use_vdl=arguments.use_vdl,
        resume_model=arguments.resume_model,
        threads=threads,
    )
    validate = make_validation(config, validation) if validation is not None else None
    train(config, options, dataset, validate)
    return None


if __name__ == "__main__":
    run_command(main)
