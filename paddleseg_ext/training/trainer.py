"""The training loop: forward, loss, backward, step; evaluation and checkpoints beside it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paddle
from paddle import nn

from paddleseg_ext.checkpoints.store import save_arrays
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import delete_leftovers
from paddleseg_ext.common.log import log
from paddleseg_ext.common.version import __version__
from paddleseg_ext.config import Config
from paddleseg_ext.distributed.world import (
    World,
    average_of_all,
    parallelize,
    require_same,
    share_statistics,
    wait_for_all,
)
from paddleseg_ext.losses.multi_head import MultiHeadLoss, build_loss
from paddleseg_ext.models.build import build_model, load_pretrained
from paddleseg_ext.training.ema import EmaOptions, WeightAverage
from paddleseg_ext.training.finetune import load_for_finetuning
from paddleseg_ext.training.frozen_norm import freeze_running_statistics
from paddleseg_ext.training.monitor import Monitor
from paddleseg_ext.training.optimizer import OptimizerOptions, build_optimizer
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.precision import Precision
from paddleseg_ext.training.profiling import Profile, StageClock
from paddleseg_ext.training.run_folder import (
    WEIGHTS,
    Learner,
    TrainState,
    best_folder,
    find_resume_folder,
    load_iteration,
    note_evaluation,
    require_room_for_checkpoints,
    save_iteration,
    set_earlier_run_aside,
)
from paddleseg_ext.training.sampling import (
    Batch,
    EpochBatches,
    SeededSamples,
    batch_or_failure,
    raise_failure,
    require_one_batch,
)
from paddleseg_ext.training.schedules import Schedule, build_schedule
from paddleseg_ext.training.soundness import (
    require_finite_images,
    require_finite_loss,
    require_finite_weights,
)

if TYPE_CHECKING:
    from paddleseg_ext.evaluation.evaluator import Evaluation

# Scores a network; None stands for the protocol of `test_config:`, whose best is `best_model/`.
Validate = Callable[[nn.Layer, Monitor, int, str | None, World], "Evaluation"]


@dataclass
class Run:
    """What the loop works with."""

    config: Config
    options: TrainOptions
    world: World
    learner: Learner
    parallel_model: nn.Layer  # the network, averaging gradients where there are several processes
    loss: MultiHeadLoss
    schedule: Schedule
    state: TrainState
    monitor: Monitor
    validate: Validate | None
    sample_names: Sequence[str]
    clock: StageClock = field(default_factory=StageClock)


def train(
    config: Config,
    options: TrainOptions,
    dataset: Any,
    validate: Validate | None,
    world: World,
) -> TrainState:
    """Train the network of `config` and leave its checkpoints in `options.save_dir`.

    Args:
        config: the checked yml.
        options: the flags.
        dataset: training samples, `img` `(3, H, W)` and `label` `(H, W)` each, augmented; with
            `num_classes`, `ignore_index` and `samples`, whose `name`s messages use.
        validate: scores the network; None when there is nothing to evaluate.
        world: this process among those that train together.

    Returns:
        The state at the end.

    Raises:
        UsageError: something in the yml or the checkpoint does not fit.
        CheckFailed: the loss is no longer finite.
    """
    run = prepare_run(config, options, dataset, validate, world)
    if run.world.is_first:
        log(
            f"{type(run.learner.model).__name__}, {len(dataset)} samples, {config.iters} "
            f"iterations, batch {config.batch_size} x {config.accumulate * run.world.size}, "
            f"{options.threads} threads, seed {options.seed}, {options.precision}"
        )
    evaluate_saved(run)  # of the run that is resumed, where it did not get so far
    if not stops_early(run):
        iterate(run, dataset)
    run.monitor.close()
    if run.world.is_first:
        log(f"checkpoints and history.json are in {options.save_dir}")
    return run.state


def iterate(run: Run, dataset: Sequence[dict[str, Any]]) -> None:
    """The iterations that are left, with a checkpoint every `save_interval` and at the end.

    Raises:
        UsageError: a sample could not be read.
        CheckFailed: the loss is no longer finite.
    """
    config, options = run.config, run.options
    first, samples = run.state.iteration, config.batch_size * config.accumulate * run.world.size
    profiled = options.profile if run.world.is_first else 0
    profile = Profile(profiled, options.save_dir, first, run.clock)
    batches = iterate_batches(run, dataset)
    for iteration in range(first, config.iters):
        profile.before(iteration)
        started = time.perf_counter()
        run.learner.optimizer.set_lr(run.schedule(iteration))
        loss = train_step(run, batches)
        stages = run.clock.take()
        run.state.iteration = iteration + 1
        if run.world.is_first:
            run.monitor.step(
                iteration=iteration + 1,
                epoch=iteration // (len(dataset) // samples) + 1,
                loss=loss,
                learning_rate=run.learner.optimizer.get_lr(),
                samples=samples,
                reader_seconds=stages["reader"],
                seconds=time.perf_counter() - started,
            )
        profile.after(iteration, stages)
        if run.state.iteration % options.save_interval == 0 or run.state.iteration == config.iters:
            save_and_evaluate(run)
            if stops_early(run):
                break
    next(batches, None)  # lets the reading processes end


def prepare_run(
    config: Config, options: TrainOptions, dataset: Any, validate: Validate | None, world: World
) -> Run:
    """Build all that a run needs, fresh or from the checkpoint that is to be resumed.

    What may be refused comes before `begin_or_resume`, which sets an earlier run aside.
    """
    require_one_batch(len(dataset), config.batch_size, world.size, config.accumulate)
    paddle.seed(options.seed)
    model = build_model(config, dataset.num_classes)
    schedule = build_schedule(config.lr_scheduler, config.iters)
    optimizer = build_optimizer(OptimizerOptions.from_section(config.optimizer), model, schedule(0))
    loss = build_loss(config, dataset.ignore_index, dataset.num_classes)
    average = None
    if config.ema is not None:
        average = WeightAverage(EmaOptions.from_section(config.ema), model)
    learner = Learner(model, optimizer, Precision(options.precision), average)
    state = TrainState(
        seed=options.seed,
        batch_size=config.batch_size,
        world_size=world.size,
        num_samples=len(dataset),
        iters=config.iters,
        threads=options.threads,
        accumulate=config.accumulate,
        precision=options.precision,
        ema=average is not None,
    )
    state = begin_or_resume(config, options, dataset, learner, state, world)
    if options.to_static:  # in place: parameters and their names stay
        paddle.jit.to_static(model, full_graph=True)
    require_same(state.comparable(), world)
    monitor = Monitor(
        options.save_dir, config.iters, options.log_iters, options.use_vdl and world.is_first
    )
    monitor.resume(state.iteration, state.evaluated)
    return Run(
        config=config,
        options=options,
        world=world,
        learner=learner,
        parallel_model=parallelize(model, world, options.device, config.sync_bn),
        loss=loss,
        schedule=schedule,
        state=state,
        monitor=monitor,
        validate=validate,
        sample_names=[sample.name for sample in dataset.samples],
    )


def begin_or_resume(
    config: Config,
    options: TrainOptions,
    dataset: Any,
    learner: Learner,
    state: TrainState,
    world: World,
) -> TrainState:
    """Give the learner its weights: of the checkpoint that is resumed, of a file, or fresh.

    Raises:
        UsageError: a checkpoint that does not fit, or a run that has nothing left to do.
    """
    folder = None
    if world.is_first:
        delete_leftovers(options.save_dir)
    if options.resume_model:
        folder = find_resume_folder(options.resume_model, options.save_dir)
    if folder is not None:
        state = load_iteration(folder, learner, state)
        if 0 < options.early_stop <= state.stale_evaluations:
            raise UsageError(
                f"{folder}: that run stopped early: its last {state.stale_evaluations} evaluations "
                f"brought no better mIoU; raise --early_stop above {state.stale_evaluations} to "
                "go on"
            )
        if world.is_first:
            set_earlier_run_aside(options.save_dir, folder)
        return state
    if options.finetune:
        load_for_finetuning(config, learner.model, dataset.num_classes, options.finetune)
    else:
        load_pretrained(config, learner.model)
    learner.begin()
    if world.is_first:
        saves = min(options.keep_checkpoint_max, -(-config.iters // options.save_interval))
        require_room_for_checkpoints(options.save_dir, learner, saves)
        set_earlier_run_aside(options.save_dir)
    return state


def iterate_batches(run: Run, dataset: Sequence[dict[str, Any]]) -> Iterator[Batch]:
    """The run's remaining batches, `accumulate` an iteration.

    Raises:
        UsageError: a sample could not be read, or a batch not be made of the samples.
    """
    batches = EpochBatches(
        num_samples=len(dataset),
        batch_size=run.config.batch_size,
        seed=run.options.seed,
        first=run.state.iteration,
        last=run.config.iters,
        rank=run.world.rank,
        world_size=run.world.size,
        accumulate=run.config.accumulate,
    )
    loader = paddle.io.DataLoader(
        SeededSamples(dataset, run.options.seed),
        batch_sampler=batches,
        collate_fn=batch_or_failure,
        num_workers=run.options.num_workers,
        return_list=True,
    )
    for arrays in loader:
        raise_failure(arrays)
        yield Batch(*arrays)


def train_step(run: Run, batches: Iterator[Batch]) -> float:
    """One iteration on the next `accumulate` batches; the mean of their losses before it.

    Raises:
        CheckFailed: a loss is not finite; the weights are left as they were.
    """
    run.parallel_model.train()
    if run.config.freeze_bn:
        freeze_running_statistics(run.parallel_model)
    count, mean_loss = run.config.accumulate, 0.0
    for number in range(count):
        with run.clock("reader"):
            batch = next(batches)
        # Seeded by iteration and batch: dropout repeats, and no generator state needs saving.
        draw = (run.state.iteration * count + number) * run.world.size + run.world.rank
        paddle.seed((run.options.seed * 1_000_003 + draw) % 2**31)
        with without_exchange(run, is_last=number == count - 1):
            mean_loss += add_gradients(run, batch, 1.0 / count) / count
    with run.clock("step"):
        run.learner.step(run.state.iteration + 1)
    return mean_loss


def without_exchange(run: Run, is_last: bool) -> AbstractContextManager[None]:
    """Several processes exchange gradients once an iteration, with its last batch."""
    if is_last or run.world.size == 1:
        return nullcontext()
    return run.parallel_model.no_sync()


def add_gradients(run: Run, batch: Batch, factor: float) -> float:
    """Add `factor` times the gradients of one batch to those that are there; its loss.

    Raises:
        CheckFailed: an image or the loss is not finite.
    """
    names, iteration = run.sample_names, run.state.iteration + 1
    require_finite_images(batch, names, iteration)
    with run.clock("forward"):
        heads = run.learner.precision.forward(run.parallel_model, batch.images)
    with run.clock("loss"):
        total, head_losses = run.loss(heads, batch.labels)
        # The same in every process: they stop together.
        value = float(average_of_all(total, run.world))
    require_finite_loss(value, head_losses, batch, names, iteration)
    with run.clock("backward"):
        run.learner.precision.backward(total * factor if factor != 1.0 else total)
    return value


def save_and_evaluate(run: Run) -> None:
    """Write `iter_N`, then score it.

    In this order, so that an evaluation that fails or is killed costs no iteration: the run that
    goes on from there begins with the evaluation.
    """
    require_finite_weights(run.learner.model, run.state.iteration)
    # The averaged weights may stand in for the network's own while it is scored, so here, too.
    share_statistics(run.learner.model, run.world)
    run.state.evaluated = run.validate is None
    if run.world.is_first:
        run.monitor.save()
        save_iteration(
            run.options.save_dir,
            run.learner,
            run.state,
            describe(run),
            run.options.keep_checkpoint_max,
        )
    evaluate_saved(run)


def evaluate_saved(run: Run) -> None:
    """Score the newest `iter_N` and keep the best, if that is still to be done.

    Every process scores its share and comes to the same scores; the first one logs and writes.
    """
    if run.validate is not None and not run.state.evaluated:
        scores = evaluate(run, describe(run))
        run.state.evaluated = True
        if run.world.is_first:
            if stops_early(run):
                run.monitor.stopped_early(run.state, run.options.early_stop)
            run.monitor.save()
            note_evaluation(run.options.save_dir, run.state, scores)
    wait_for_all(run.world)


def evaluate(run: Run, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Score the weights that are deployed and keep the best ones; the scores of `best_model/`.

    With `keep_best:`, by each of its protocols, one folder each; the first is that of
    `best_model/`, too.
    """
    assert run.validate is not None
    state, protocols = run.state, run.config.keep_best or [None]
    with run.learner.as_deployed() as model:
        evaluations = [
            run.validate(model, run.monitor, state.iteration, protocol, run.world)
            for protocol in protocols
        ]
    for number, (protocol, evaluation) in enumerate(zip(protocols, evaluations, strict=True)):
        scores = evaluation.scores
        other = protocol if number else None
        run.monitor.evaluated(state.iteration, scores.mean_iou, scores.accuracy, other)
        if protocol is not None and scores.mean_iou > state.best_by_protocol.get(protocol, -1.0):
            state.best_by_protocol[protocol] = scores.mean_iou
            save_best(run, protocol, evaluation, manifest)
    mean_iou = evaluations[0].scores.mean_iou
    state.stale_evaluations += 1
    if mean_iou > state.best_mean_iou:
        state.best_mean_iou, state.best_iteration = mean_iou, state.iteration
        state.stale_evaluations = 0
        save_best(run, None, evaluations[0], manifest)
    if run.world.is_first:
        log(
            f"[EVAL] The model with the best validation mIoU ({state.best_mean_iou:.4f}) "
            f"was saved at iter {state.best_iteration}."
        )
    return evaluations[0].to_json()


def save_best(
    run: Run, protocol: str | None, evaluation: "Evaluation", manifest: Mapping[str, Any]
) -> None:
    """Replace the best checkpoint by a protocol; on the first process."""
    if not run.world.is_first:
        return
    path = run.options.save_dir / best_folder(protocol) / WEIGHTS
    scores = {"scores": evaluation.to_json()}
    save_arrays(run.learner.deployed_arrays(), path, {**manifest, **scores})


def stops_early(run: Run) -> bool:
    """Whether `--early_stop` evaluations in a row have brought nothing."""
    return 0 < run.options.early_stop <= run.state.stale_evaluations


def describe(run: Run) -> dict[str, Any]:
    """The manifest of a checkpoint: what it is and what made it."""
    return {
        "network": type(run.learner.model).__name__,
        "iteration": run.state.iteration,
        "weights": "averaged" if run.learner.average is not None else "as trained",
        "config": run.config.raw,
        "versions": {"paddleseg_ext": __version__, "paddle": paddle.__version__},
        "training": {
            "seed": run.options.seed,
            "batch_size": run.config.batch_size,
            "accumulate": run.config.accumulate,
            "world_size": run.world.size,
            "threads": run.options.threads,
            "device": run.options.device,
            "precision": run.options.precision,
        },
    }
