"""The training loop: forward, loss, backward, step; evaluation and checkpoints beside it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paddle
from paddle import Tensor, nn

from paddleseg_ext import __version__
from paddleseg_ext.checkpoints.store import save_weights
from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.log import log
from paddleseg_ext.config import Config
from paddleseg_ext.losses.multi_head import MultiHeadLoss, build_loss
from paddleseg_ext.models.build import build_model, load_pretrained
from paddleseg_ext.training.distributed import World, join_world, parallelize, wait_for_all
from paddleseg_ext.training.monitor import Monitor
from paddleseg_ext.training.optimizer import OptimizerOptions, build_optimizer
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.run_folder import (
    BEST,
    WEIGHTS,
    TrainState,
    find_resume_folder,
    load_iteration,
    save_iteration,
    set_earlier_run_aside,
)
from paddleseg_ext.training.sampling import EpochBatches, SeededSamples, stack_samples
from paddleseg_ext.training.schedules import Schedule, build_schedule

if TYPE_CHECKING:
    from paddleseg_ext.evaluation.evaluator import Evaluation

Validate = Callable[[nn.Layer, Monitor, int], "Evaluation"]


@dataclass
class Run:
    """What the loop works with."""

    config: Config
    options: TrainOptions
    world: World
    model: nn.Layer  # the network itself, which is saved
    parallel_model: nn.Layer  # the same, averaging gradients where there are several processes
    loss: MultiHeadLoss
    optimizer: paddle.optimizer.Optimizer
    schedule: Schedule
    state: TrainState
    monitor: Monitor
    validate: Validate | None


def train(
    config: Config,
    options: TrainOptions,
    dataset: Any,
    validate: Validate | None,
) -> TrainState:
    """Train the network of `config` and leave its checkpoints in `options.save_dir`.

    Args:
        config: the checked yml.
        options: the flags.
        dataset: training samples, `img` `(3, H, W)` and `label` `(H, W)` each, augmented; with
            `num_classes` and `ignore_index`.
        validate: scores the network; None when there is nothing to evaluate.

    Returns:
        The state at the end.

    Raises:
        UsageError: something in the yml or the checkpoint does not fit.
        CheckFailed: the loss is no longer finite.
    """
    run = prepare_run(config, options, dataset, validate)
    if run.world.is_first:
        log(
            f"{type(run.model).__name__}, {len(dataset)} samples, {config.iters} iterations, "
            f"batch {config.batch_size} x {run.world.size}, {options.threads} threads, "
            f"seed {options.seed}"
        )
    for images, labels, reader_seconds in iterate_batches(run, dataset):
        started = time.perf_counter()
        iteration = run.state.iteration
        # Seeded by the iteration: dropout repeats, and no generator state needs saving.
        paddle.seed(
            (options.seed * 1_000_003 + iteration * run.world.size + run.world.rank) % 2**31
        )
        run.optimizer.set_lr(run.schedule(iteration))
        loss = train_step(run, images, labels)
        run.state.iteration = iteration + 1
        seconds = time.perf_counter() - started + reader_seconds
        if run.world.is_first:
            run.monitor.step(
                iteration=iteration + 1,
                epoch=iteration // (len(dataset) // (len(images) * run.world.size)) + 1,
                loss=loss,
                learning_rate=run.optimizer.get_lr(),
                samples=len(images) * run.world.size,
                reader_seconds=reader_seconds,
                seconds=seconds,
            )
        if run.state.iteration % options.save_interval == 0 or run.state.iteration == config.iters:
            evaluate_and_save(run)
    run.monitor.close()
    return run.state


def prepare_run(
    config: Config, options: TrainOptions, dataset: Any, validate: Validate | None
) -> Run:
    """Build all that a run needs, fresh or from the checkpoint that is to be resumed."""
    world = join_world(options.device)
    paddle.seed(options.seed)
    model = build_model(config, dataset.num_classes)
    schedule = build_schedule(config.lr_scheduler, config.iters)
    optimizer = build_optimizer(OptimizerOptions.from_section(config.optimizer), model, schedule(0))
    state = TrainState(
        seed=options.seed,
        batch_size=config.batch_size,
        world_size=world.size,
        num_samples=len(dataset),
        iters=config.iters,
        threads=options.threads,
    )
    folder = None
    if options.resume_model:
        folder = find_resume_folder(options.resume_model, options.save_dir)
    if folder is not None:
        state = load_iteration(folder, model, optimizer, state)
    else:
        load_pretrained(config, model)
        if world.is_first:
            set_earlier_run_aside(options.save_dir)
    wait_for_all(world)
    monitor = Monitor(
        options.save_dir, config.iters, options.log_iters, options.use_vdl and world.is_first
    )
    monitor.resume(state.iteration)
    return Run(
        config=config,
        options=options,
        world=world,
        model=model,
        parallel_model=parallelize(model, world, options.device),
        loss=build_loss(config, dataset.ignore_index),
        optimizer=optimizer,
        schedule=schedule,
        state=state,
        monitor=monitor,
        validate=validate,
    )


def iterate_batches(
    run: Run, dataset: Sequence[dict[str, Any]]
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """The run's remaining batches, each with the seconds that the loop waited for it."""
    batches = EpochBatches(
        num_samples=len(dataset),
        batch_size=run.config.batch_size,
        seed=run.options.seed,
        first=run.state.iteration,
        last=run.config.iters,
        rank=run.world.rank,
        world_size=run.world.size,
    )
    loader = paddle.io.DataLoader(
        SeededSamples(dataset, run.options.seed),
        batch_sampler=batches,
        collate_fn=stack_samples,
        num_workers=run.options.num_workers,
        return_list=True,
    )
    iterator = iter(loader)
    while True:
        started = time.perf_counter()
        try:
            images, labels = next(iterator)
        except StopIteration:
            return
        yield images, labels, time.perf_counter() - started


def train_step(run: Run, images: Tensor, labels: Tensor) -> float:
    """One iteration on `(N, 3, H, W)` images and `(N, H, W)` labels; the loss before it.

    Raises:
        CheckFailed: the loss is not finite; the weights are left as they were.
    """
    run.parallel_model.train()
    heads = run.parallel_model(images)
    total, head_losses = run.loss(heads, labels)
    value = float(total)
    if not math.isfinite(value):
        each = ", ".join(f"head {i}: {float(v)}" for i, v in enumerate(head_losses))
        raise CheckFailed(
            f"iteration {run.state.iteration + 1}: the loss is {value} ({each}); nothing of this "
            "iteration was kept. Lower the learning rate, or check the labels with "
            "'python -m paddleseg_ext data check'"
        )
    total.backward()
    run.optimizer.step()
    run.optimizer.clear_grad()
    return value


def evaluate_and_save(run: Run) -> None:
    """Evaluate, keep the best, write `iter_N`; on the first process.

    The best is written before `iter_N`: a run that is killed between the two repeats the
    evaluation when it is resumed, and comes to the same result.
    """
    if run.world.is_first:
        manifest = describe(run)
        if run.validate is not None:
            evaluation = run.validate(run.model, run.monitor, run.state.iteration)
            manifest["scores"] = evaluation.to_json()
            mean_iou = evaluation.scores.mean_iou
            run.monitor.evaluated(run.state.iteration, mean_iou, evaluation.scores.accuracy)
            if mean_iou > run.state.best_mean_iou:
                run.state.best_mean_iou = mean_iou
                run.state.best_iteration = run.state.iteration
                save_weights(run.model, run.options.save_dir / BEST / WEIGHTS, manifest)
            log(
                f"[EVAL] The model with the best validation mIoU ({run.state.best_mean_iou:.4f}) "
                f"was saved at iter {run.state.best_iteration}."
            )
        run.monitor.save()
        save_iteration(
            run.options.save_dir,
            run.model,
            run.optimizer,
            run.state,
            manifest,
            run.options.keep_checkpoint_max,
        )
    wait_for_all(run.world)


def describe(run: Run) -> dict[str, Any]:
    """The manifest of a checkpoint: what it is and what made it."""
    return {
        "network": type(run.model).__name__,
        "iteration": run.state.iteration,
        "config": run.config.raw,
        "versions": {"paddleseg_ext": __version__, "paddle": paddle.__version__},
        "training": {
            "seed": run.options.seed,
            "batch_size": run.config.batch_size,
            "world_size": run.world.size,
            "threads": run.options.threads,
            "device": run.options.device,
        },
    }
