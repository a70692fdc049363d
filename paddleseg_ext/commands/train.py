r"""Train the network that a yml describes.

    python train.py --config configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml \
        --do_eval --use_vdl --save_dir output/bisenetv1

    python -m paddle.distributed.launch --gpus 0,1,2,3 train.py --config ... --do_eval

SAVE_DIR gets iter_N/ (weights, optimizer, state) every --save_interval iterations, and with
--do_eval best_model/. A run that was interrupted goes on with --resume_model SAVE_DIR/iter_N (or
auto, the newest) and ends in the same weights as one that was not. docs/training.md has the rest.
"""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, require_writable, sole_writer
from paddleseg_ext.common.machine import fix_thread_count, let_waiting_threads_sleep, resolve_device
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.training.options import WARMUP_ITERS
from paddleseg_ext.training.precision import FP32, PADDLESEG_FP16, PRECISIONS, resolve_precision


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "train")
    flags.add_config_flags(parser)
    flags.add_device_flag(parser)
    yml = "as in the yml"
    parser.add_argument("--iters", type=flags.positive_int, help=f"iterations ({yml} unless given)")
    parser.add_argument("--batch_size", type=flags.positive_int, help=f"samples of a batch ({yml})")
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
    _add_feature_flags(parser)
    return parser


def _add_feature_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accumulate",
        type=flags.positive_int,
        metavar="N",
        help="batches whose gradients an iteration adds up (as in the yml, or 1)",
    )
    parser.add_argument(
        "--precision",
        choices=[*PRECISIONS, PADDLESEG_FP16],
        default=FP32,
        help="mixed precision, on a GPU; fp16 is PaddleSeg's name for amp_O1",
    )
    parser.add_argument(
        "--amp_level", choices=["O1", "O2"], help="with --precision fp16, as PaddleSeg has it"
    )
    parser.add_argument(
        "--early_stop",
        "--early_stop_intervals",
        type=flags.natural_int,
        default=0,
        metavar="N",
        help="end after N evaluations without a better mIoU; 0: never",
    )
    parser.add_argument(
        "--finetune",
        metavar="PDPARAMS",
        help="start from a whole network; only what depends on the class count may differ",
    )
    parser.add_argument(
        "--to_static",
        type=flags.boolean,
        default=False,
        help="train in static graph, as export sees the network; one process",
    )
    parser.add_argument(
        "--profile",
        type=flags.natural_int,
        default=0,
        metavar="N",
        help="take the time of N iterations apart; SAVE_DIR/profile.json, profile_trace.json",
    )


def check(arguments: argparse.Namespace) -> Config:
    """All that can be found wrong without Paddle, which takes seconds to import."""
    from paddleseg_ext.evaluation.protocol_choice import kept_protocols
    from paddleseg_ext.training.ema import EmaOptions
    from paddleseg_ext.training.optimizer import OptimizerOptions
    from paddleseg_ext.training.run_folder import find_resume_folder, read_state
    from paddleseg_ext.training.schedules import build_schedule

    config = load_config(
        arguments.config,
        arguments.opts,
        iters=arguments.iters,
        batch_size=arguments.batch_size,
        accumulate=arguments.accumulate,
        learning_rate=arguments.learning_rate,
    )
    for section in ("model", "train_dataset", "loss", "optimizer", "lr_scheduler"):
        config.section(section)
    if arguments.do_eval:
        config.section("val_dataset")
    elif arguments.early_stop:
        raise UsageError("--early_stop needs evaluations: add --do_eval")
    OptimizerOptions.from_section(config.optimizer)
    build_schedule(config.lr_scheduler, config.iters)
    EmaOptions.from_section(config.ema or {})
    kept_protocols(config.keep_best)
    if arguments.finetune and arguments.resume_model not in (None, "auto"):
        raise UsageError(
            "--finetune begins a run and --resume_model goes on with one: give one of them "
            "(--resume_model auto goes on where there is a checkpoint, else it fine-tunes)"
        )
    folder, done = None, 0
    if arguments.resume_model:
        folder = find_resume_folder(arguments.resume_model, arguments.save_dir)
    if folder is not None:
        done = read_state(folder).iteration
    else:
        check_start(arguments, config)
    if arguments.profile and done + WARMUP_ITERS + arguments.profile > config.iters:
        raise UsageError(
            f"--profile {arguments.profile}: {WARMUP_ITERS} iterations come before, and the run "
            f"has {max(0, config.iters - done)} to do; raise --iters or profile fewer"
        )
    if arguments.to_static and int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        raise UsageError("--to_static True trains in one process; several train without it")
    require_writable(arguments.save_dir, "--save_dir")
    return config


def check_start(arguments: argparse.Namespace, config: Config) -> None:
    """Whether the weights that a new run begins with are there and fit what is asked of them."""
    if arguments.finetune:
        require_file(arguments.finetune, "--finetune")
    backbone = config.model.get("backbone")
    pretrained = config.pretrained or (isinstance(backbone, dict) and backbone.get("pretrained"))
    if config.freeze_bn and not (arguments.finetune or pretrained):
        raise UsageError(
            "freeze_bn: true keeps the running statistics that the network begins with, and fresh "
            "ones are of no use: give --finetune, or 'pretrained:' in the yml"
        )


def main(argv: list[str]) -> int | None:
    """Parse, check, train."""
    arguments = build_parser().parse_args(argv)
    device = resolve_device(arguments.device)
    precision = resolve_precision(arguments.precision, arguments.amp_level, device)
    config = check(arguments)
    threads = fix_thread_count()
    let_waiting_threads_sleep()

    from paddleseg_ext.data.build import build_dataset
    from paddleseg_ext.data.validate import require_sound
    from paddleseg_ext.distributed.world import joined_world, wait_for_all
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
        precision=precision,
        early_stop=arguments.early_stop,
        finetune=arguments.finetune,
        profile=arguments.profile,
        to_static=arguments.to_static,
    )
    with joined_world(device) as world:
        dataset = build_dataset(config, "train_dataset")
        validation = build_dataset(config, "val_dataset") if arguments.do_eval else None
        if world.is_first:
            require_sound(dataset, "train_dataset")
            if validation is not None:
                require_sound(validation, "val_dataset")
        wait_for_all(world)
        validate = None
        if validation is not None:
            validate = make_validation(config, validation, dataset.num_classes)
        first = world.is_first
        with sole_writer(options.save_dir, "--save_dir") if first else nullcontext():
            train(config, options, dataset, validate, world)
    return None
