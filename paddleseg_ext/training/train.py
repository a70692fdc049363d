"""Training from Python: a configuration and options in, checkpoints and a result out.

    from paddleseg_ext.config import load_config
    from paddleseg_ext.training.train import TrainOptions, train

    result = train(load_config("my.yml"), TrainOptions(save_dir=Path("output/my"), do_eval=True))

Started by `paddle.distributed.launch`, the same call trains in several processes.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from paddleseg_ext.common.files import sole_writer
from paddleseg_ext.common.machine import fix_thread_count, let_waiting_threads_sleep
from paddleseg_ext.common.processes import import_paddle
from paddleseg_ext.config import Config
from paddleseg_ext.training.history import History
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.plan import make_plan
from paddleseg_ext.training.run_folder import best_folder
from paddleseg_ext.training.state import WEIGHTS


@dataclass(frozen=True)
class TrainResult:
    """The end of a training.

    Attributes:
        weights: of the last iteration.
        best_weights: with the best mIoU; None where nothing was evaluated.
        iteration: the last one.
        best_mean_iou: 0 to 1; None where nothing was evaluated.
        history: losses and scores on the way; empty in all processes but the first.
    """

    weights: Path
    best_weights: Path | None
    iteration: int
    best_mean_iou: float | None
    history: History


def train(config: Config, options: TrainOptions = TrainOptions()) -> TrainResult:
    """Train the network of `config` and leave its checkpoints in `options.save_dir`.

    Raises:
        UsageError: something in the configuration, the options, the data or a checkpoint does not
            fit. Most of it is found before Paddle is imported, all of it before the first step.
        CheckFailed: the loss is no longer finite.
    """
    plan = replace(make_plan(config, options), threads=fix_thread_count())
    let_waiting_threads_sleep()
    import_paddle()

    from paddleseg_ext.data.build import build_dataset
    from paddleseg_ext.data.validate import require_sound_sets
    from paddleseg_ext.distributed.world import joined_world, wait_for_all
    from paddleseg_ext.training.run_record import describe_start
    from paddleseg_ext.training.trainer import run_training
    from paddleseg_ext.training.validation import make_validation

    with joined_world(plan.device) as world:
        data = {"train_dataset": build_dataset(config, "train_dataset")}
        if options.do_eval:
            data["val_dataset"] = build_dataset(config, "val_dataset")
        start = None
        if world.is_first:
            require_sound_sets(data)
            of_run = {"device": plan.device, "threads": plan.threads, "processes": world.size}
            start = describe_start(config, plan.options, data, **of_run)
        wait_for_all(world)
        training, validate = data["train_dataset"], None
        if options.do_eval:
            validate = make_validation(plan, data["val_dataset"], training.num_classes, world)
        alone = sole_writer(options.save_dir, "--save_dir") if world.is_first else nullcontext()
        with alone:
            state, history = run_training(plan, training, validate, world, start)
    evaluated = state.best_iteration > 0
    best = options.save_dir / best_folder(None) / WEIGHTS
    return TrainResult(
        weights=options.save_dir / f"iter_{state.iteration}" / WEIGHTS,
        best_weights=best if evaluated else None,
        iteration=state.iteration,
        best_mean_iou=state.best_mean_iou if evaluated else None,
        history=history,
    )
