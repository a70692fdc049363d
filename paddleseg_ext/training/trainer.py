"""The training loop: forward, loss, backward, step; evaluation and checkpoints beside it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle
from paddle import nn

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.checkpoints.store import save_arrays
from paddleseg_ext.common.errors import UsageError, shortened
from paddleseg_ext.common.files import delete_leftovers
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.common.version import __version__
from paddleseg_ext.distributed.world import (
    World,
    average_of_all,
    parallelize,
    require_same,
    share_statistics,
    wait_for_all,
)
from paddleseg_ext.evaluation.other_preprocessing import warn_of_other_training
from paddleseg_ext.losses.multi_head import MultiHeadLoss, build_loss
from paddleseg_ext.models.build import build_model, load_pretrained
from paddleseg_ext.models.starting_weights import files_to_start_from
from paddleseg_ext.training.distillation import Distiller
from paddleseg_ext.training.ema import WeightAverage
from paddleseg_ext.training.finetune import load_for_finetuning
from paddleseg_ext.training.frozen_norm import freeze_running_statistics
from paddleseg_ext.training.history import History
from paddleseg_ext.training.initialization import initialize_as
from paddleseg_ext.training.monitor import DISTILLATION, Losses, Monitor, StepRecord
from paddleseg_ext.training.optimizer import build_optimizer, l2_loss
from paddleseg_ext.training.parameter_groups import group_parameters
from paddleseg_ext.training.plan import TrainingPlan
from paddleseg_ext.training.precision import Precision
from paddleseg_ext.training.profiling import Profile, StageClock
from paddleseg_ext.training.readers import read_batches
from paddleseg_ext.training.rehearsal import rehearse_step
from paddleseg_ext.training.run_folder import (
    KeptBest,
    Learner,
    best_folder,
    config_changes,
    is_in,
    later_bests,
    load_iteration,
    load_paddlesegs_iteration,
    note_evaluation,
    require_room_for_checkpoints,
    save_iteration,
    set_earlier_run_aside,
)
from paddleseg_ext.training.run_record import Start, add_start
from paddleseg_ext.training.sampling import (
    Batch,
    EpochBatches,
    GlobalBatch,
    SeededSamples,
    raise_failure,
)
from paddleseg_ext.training.soundness import (
    require_finite_images,
    require_finite_loss,
    require_finite_weights,
)
from paddleseg_ext.training.state import NEVER, WEIGHTS, TrainState
from paddleseg_ext.training.trackers import open_tracker

if TYPE_CHECKING:
    from paddleseg_ext.evaluation.evaluator import Evaluation

# Scores a network at an iteration by a protocol of the plan (`validation.Validation`).
Validate = Callable[[nn.Layer, Monitor, int, str | None], "Evaluation"]


@dataclass
class Training:
    """The objects that the loop works with.

    Attributes:
        dataset: training samples, `img` `(3, H, W)` and `label` `(H, W)` each, augmented; with
            `num_classes`, `ignore_index`, `class_table` and `samples`, whose `name`s messages use.
        groups: the parameters, from `group_parameters`.
        parallel_model: the network, averaging gradients where there are several processes.
        validate: None where nothing is evaluated.
        distiller: the teacher; None without `distillation:`.
        kept_bests: best weights of later iterations, from before the run was resumed.
    """

    plan: TrainingPlan
    dataset: Any
    batch: GlobalBatch
    learner: Learner
    groups: Sequence[Mapping[str, Any]]
    parallel_model: nn.Layer
    loss: MultiHeadLoss
    state: TrainState
    monitor: Monitor
    validate: Validate | None
    distiller: Distiller | None = None
    kept_bests: Mapping[str | None, KeptBest] = field(default_factory=dict)
    clock: StageClock = field(default_factory=StageClock)

    @property
    def world(self) -> World:
        """This process among those that train together."""
        return self.batch.world


def run_training(
    plan: TrainingPlan,
    dataset: Any,
    validate: Validate | None,
    world: World,
    start: Start | None = None,
) -> tuple[TrainState, History]:
    """Train the network of a plan and leave its checkpoints in `--save_dir`.

    Args:
        plan: what is trained, and how.
        dataset: training samples, see `Training`.
        validate: scores the network; None where nothing is evaluated.
        world: this process among those that train together.
        start: for the run's record; None writes none.

    Returns:
        The state at the end, and the losses and scores on the way (in the first process).

    Raises:
        UsageError: something in the yml or the checkpoint does not fit.
        CheckFailed: the loss is no longer finite.
    """
    run = prepare_run(plan, dataset, validate, world)
    if start is not None:
        add_start(plan.options.save_dir, start, run.state.iteration)
    if world.is_first:
        log(
            f"{type(run.learner.model).__name__}, {len(dataset)} samples, {plan.config.iters} "
            f"iterations, batch {plan.config.batch_size} x {plan.config.accumulate * world.size}, "
            f"{plan.threads} threads, seed {plan.options.seed}, {plan.precision}"
        )
        for line in plan.warnings():
            warn(line)
    evaluate_saved(run)  # of the resumed checkpoint, where its evaluation was interrupted
    if not stops_early(run):
        iterate(run)
    run.monitor.close()
    if world.is_first:
        log(f"checkpoints and history.json are in {plan.options.save_dir}")
    return run.state, run.monitor.history


def iterate(run: Training) -> None:
    """Run the remaining iterations, with a checkpoint every `save_interval` and at the end.

    Raises:
        UsageError: a sample could not be read.
        CheckFailed: the loss is no longer finite.
    """
    options, iters, first = run.plan.options, run.plan.config.iters, run.state.iteration
    profiled = options.profile if run.world.is_first else 0
    profile = Profile(profiled, options.save_dir, first, run.clock)
    batches = iterate_batches(run)
    for iteration in range(first, iters):
        profile.before(iteration)
        started = time.perf_counter()
        run.learner.optimizer.set_lr(run.plan.schedule(iteration))
        losses = train_step(run, batches)
        stages = run.clock.take()
        run.state.iteration = iteration + 1
        if run.world.is_first:
            step = StepRecord(
                iteration=iteration + 1,
                epoch=iteration // (len(run.dataset) // run.batch.size) + 1,
                losses=losses,
                learning_rate=run.learner.optimizer.get_lr(),
                samples=run.batch.size,
                reader_seconds=stages["reader"],
                seconds=time.perf_counter() - started,
                l2_loss=l2_loss(run.plan.optimizer, run.groups)
                if run.monitor.logs(iteration + 1)
                else None,
            )
            run.monitor.step(step)
        profile.after(iteration, stages)
        if run.state.iteration % options.save_interval == 0 or run.state.iteration == iters:
            save_and_evaluate(run)
            if stops_early(run):
                break
    next(batches, None)  # lets the reading processes end


def prepare_run(
    plan: TrainingPlan, dataset: Any, validate: Validate | None, world: World
) -> Training:
    """Build the objects of a run, fresh or from the checkpoint that is to be resumed.

    All refusals come before `begin_or_resume`, which moves the files of an earlier run.
    """
    config, options = plan.config, plan.options
    batch = GlobalBatch(config.batch_size, config.accumulate, world)
    batch.require(len(dataset))
    paddle.seed(options.seed)
    model = build_model(config, dataset.num_classes)
    initialize_as(model, config.initialization)
    groups = group_parameters(plan.optimizer, model)
    optimizer = build_optimizer(plan.optimizer, groups, plan.schedule(0))
    loss = build_loss(config, dataset.ignore_index, dataset.num_classes)
    distiller = None if plan.distillation is None else Distiller(plan.distillation, config, dataset)
    rehearse_step(model, loss, dataset, options.seed, distiller)
    average = None if plan.ema is None else WeightAverage(plan.ema, model)
    learner = Learner(model, optimizer, Precision(plan.precision), average)
    fresh = TrainState(
        seed=options.seed,
        batch_size=config.batch_size,
        world_size=world.size,
        num_samples=len(dataset),
        iters=config.iters,
        threads=plan.threads,
        accumulate=config.accumulate,
        precision=plan.precision,
        ema=average is not None,
        teacher="" if plan.distillation is None else plan.distillation.sha256,
    )
    state, kept_bests = begin_or_resume(plan, learner, fresh, dataset.num_classes, world)
    if options.to_static:  # in place: parameters and their names stay
        paddle.jit.to_static(model, full_graph=True)
    require_same(state.comparable(), world)
    names = options.trackers if world.is_first else []
    trackers = [open_tracker(name, options.save_dir) for name in names]
    monitor = Monitor(options.save_dir, config.iters, options.log_iters, trackers)
    monitor.resume(state.iteration, state.evaluated)
    return Training(
        plan=plan,
        dataset=dataset,
        batch=batch,
        learner=learner,
        groups=groups,
        parallel_model=parallelize(model, world, plan.device, config.sync_bn),
        loss=loss,
        distiller=distiller,
        state=state,
        kept_bests=kept_bests,
        monitor=monitor,
        validate=validate,
    )


def begin_or_resume(
    plan: TrainingPlan, learner: Learner, fresh: TrainState, num_classes: int, world: World
) -> tuple[TrainState, Mapping[str | None, KeptBest]]:
    """Load the weights of the resumed checkpoint or of a file, or keep the fresh ones.

    Returns:
        The state that the run begins with, which is that of the checkpoint, else `fresh`; and the
        best weights that the resumed run had in later iterations.

    Raises:
        UsageError: a checkpoint that does not fit, or a run that has nothing left to do.
    """
    options, save_dir = plan.options, plan.options.save_dir
    if world.is_first:
        delete_leftovers(save_dir)
    if plan.resumed is not None:
        return resume(plan, plan.resumed, learner, fresh, world)
    if plan.begun:
        load_paddlesegs_iteration(Path(str(options.resume_model)), learner)
        fresh = replace(fresh, iteration=plan.begun)
    else:
        if options.finetune:
            load_for_finetuning(plan.config, learner.model, num_classes, options.finetune)
        else:
            load_pretrained(plan.config, learner.model)
        learner.begin()
    if world.is_first:
        starts = files_to_start_from(plan.config)
        if begun_with := options.finetune or starts.get(
            "pretrained", starts.get("model.pretrained")
        ):
            warn_of_other_training(plan.config, begun_with)
        saves = min(options.keep_checkpoint_max, -(-fresh.iters // options.save_interval))
        require_room_for_checkpoints(save_dir, learner, saves)
        set_earlier_run_aside(save_dir)
    return fresh, {}


def resume(
    plan: TrainingPlan, resumed: Path, learner: Learner, fresh: TrainState, world: World
) -> tuple[TrainState, Mapping[str | None, KeptBest]]:
    """Load a checkpoint and set later ones of its folder aside; returns as `begin_or_resume`."""
    options = plan.options
    state = load_iteration(resumed, learner, fresh)
    if 0 < options.early_stop <= state.stale_evaluations:
        raise UsageError(
            f"{resumed}: that run stopped early: its last {state.stale_evaluations} "
            f"evaluations brought no better mIoU; raise --early_stop above "
            f"{state.stale_evaluations} to continue it"
        )
    changes = config_changes(resumed, plan.config.raw)
    if changes and world.is_first:
        warn(
            f"{resumed}: {shortened(changes)}: the result will not be that of an uninterrupted run"
        )
    is_same_run = not changes and is_in(options.save_dir, resumed)
    kept = later_bests(options.save_dir, state, is_same_run)
    wait_for_all(world)  # until every process has read what is moved now
    if world.is_first:
        set_earlier_run_aside(options.save_dir, resumed, kept)
    return state, kept


def iterate_batches(run: Training) -> Iterator[Batch]:
    """Yields the remaining batches, `accumulate` per iteration.

    Raises:
        UsageError: a sample could not be read, or the samples do not form a batch.
        CheckFailed: a reading process has ended.
    """
    options = run.plan.options
    batches = EpochBatches(
        num_samples=len(run.dataset),
        batch=run.batch,
        seed=options.seed,
        first=run.state.iteration,
        last=run.plan.config.iters,
    )
    samples = SeededSamples(run.dataset, options.seed)
    for arrays in read_batches(samples, batches, options.num_workers):
        raise_failure(arrays)
        images, labels, numbers, *edges = arrays
        names = [run.dataset.samples[n].name for n in numbers.tolist()]
        yield Batch(images, labels, names, *edges)


def train_step(run: Training, batches: Iterator[Batch]) -> Losses:
    """Train one iteration on the next `accumulate` batches; returns their mean losses before it.

    Raises:
        CheckFailed: a loss is not finite; the weights are left unchanged.
    """
    run.parallel_model.train()
    if run.plan.config.freeze_bn:
        freeze_running_statistics(run.parallel_model)
    count, seed = run.batch.accumulate, run.plan.options.seed
    losses = []
    for number in range(count):
        with run.clock("reader"):
            batch = next(batches)
        # A seed per iteration and batch: dropout is repeatable without saving generators.
        draw = (run.state.iteration * count + number) * run.world.size + run.world.rank
        paddle.seed((seed * 1_000_003 + draw) % 2**31)
        with without_exchange(run, is_last=number == count - 1):
            losses.append(add_gradients(run, batch, 1.0 / count))
    with run.clock("step"):
        run.learner.step(run.state.iteration + 1)
    return Losses.mean(losses)


def without_exchange(run: Training, is_last: bool) -> AbstractContextManager[None]:
    """The context of a backward pass: processes exchange gradients with the last batch only."""
    if is_last or run.world.size == 1:
        return nullcontext()
    return run.parallel_model.no_sync()


def add_gradients(run: Training, batch: Batch, factor: float) -> Losses:
    """Add `factor` times the gradients of one batch to the accumulated ones.

    Returns:
        Its losses, means over the processes.

    Raises:
        CheckFailed: an image or the loss is not finite.
    """
    iteration = run.state.iteration + 1
    require_finite_images(batch, iteration)
    with run.clock("forward"), types_for(run.learner.model):
        heads = run.learner.precision.forward(run.parallel_model, batch.images)
    with run.clock("loss"):
        total, head_losses = run.loss(heads, batch.labels, batch.edges)
        parts = {f"head {number}": loss for number, loss in enumerate(head_losses)}
        if run.distiller is not None:
            term = run.distiller.term(batch.images, heads, batch.labels, run.learner.precision)
            total, parts = total + term, parts | {DISTILLATION: term}
        # Equal in every process, so that they stop together.
        losses = paddle.stack(
            [v.detach().reshape([]).astype("float64") for v in (total, *parts.values())]
        )
        values = average_of_all(losses, run.world).tolist()
    require_finite_loss(values[0], parts, batch, iteration)
    with run.clock("backward"):
        run.learner.precision.backward(total * factor if factor != 1.0 else total)
    return Losses.named(values[0], dict(zip(parts, values[1:], strict=True)))


def save_and_evaluate(run: Training) -> None:
    """Write `iter_N`, then score it.

    In this order, so that an evaluation that fails or is killed costs no iteration: a resumed run
    begins with the evaluation.
    """
    require_finite_weights(run.learner.model, run.state.iteration)
    # Also here: while it is scored, the network may have the averaged weights.
    share_statistics(run.learner.model, run.world)
    run.state.evaluated = run.validate is None
    if run.world.is_first:
        run.monitor.save()
        options = run.plan.options
        keep = options.keep_checkpoint_max
        save_iteration(options.save_dir, run.learner, run.state, describe(run), keep)
    evaluate_saved(run)


def evaluate_saved(run: Training) -> None:
    """Score the newest `iter_N` and keep the best weights, unless that is done.

    Every process scores its share and returns with the same scores; the first one logs and writes.
    """
    if run.validate is not None and not run.state.evaluated:
        scores = evaluate(run, describe(run))
        run.state.evaluated = True
        if run.world.is_first:
            if stops_early(run):
                run.monitor.stopped_early(run.state, run.plan.options.early_stop)
            run.monitor.save()
            note_evaluation(run.plan.options.save_dir, run.state, scores)
    wait_for_all(run.world)


def evaluate(run: Training, manifest: CheckpointManifest) -> dict[str, Any]:
    """Score the deployed weights and keep the best ones; returns the scores for `best_model/`.

    With `keep_best:`, each of its protocols has a folder; the first also decides `best_model/`.
    """
    assert run.validate is not None
    state, protocols = run.state, list(run.plan.rules)
    with run.learner.as_deployed() as model:
        evaluations = [
            run.validate(model, run.monitor, state.iteration, protocol) for protocol in protocols
        ]
    for number, (protocol, evaluation) in enumerate(zip(protocols, evaluations, strict=True)):
        scores = evaluation.scores
        other = protocol if number else None
        run.monitor.evaluated(state.iteration, scores.mean_iou, scores.accuracy, other)
        if protocol is not None and scores.mean_iou > state.best_by_protocol.get(protocol, NEVER):
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
    run: Training, protocol: str | None, evaluation: "Evaluation", manifest: CheckpointManifest
) -> None:
    """Replace the best checkpoint by a protocol, in the first process.

    One of a later iteration, from before the run was resumed, stays until it is reached.
    """
    if not run.world.is_first:
        return
    kept = run.kept_bests.get(protocol)
    if kept is not None and evaluation.scores.mean_iou < kept.mean_iou:
        log(
            f"{best_folder(protocol)} stays that of iter {kept.iteration} (mIoU "
            f"{kept.mean_iou:.4f}), from before the run was resumed"
        )
        return
    path = run.plan.options.save_dir / best_folder(protocol) / WEIGHTS
    rule = run.plan.rules.get(protocol, run.plan.main_rule)
    manifest = replace(manifest, scores=evaluation.to_json(), evaluation=rule.to_dict())
    save_arrays(run.learner.deployed_arrays(), path, manifest)


def stops_early(run: Training) -> bool:
    """Whether the last `--early_stop` evaluations brought no better mIoU."""
    return 0 < run.plan.options.early_stop <= run.state.stale_evaluations


def describe(run: Training) -> CheckpointManifest:
    """The manifest of the weights that the run has now."""
    plan = run.plan
    validated = plan.config.raw.get("val_dataset") or {}
    return CheckpointManifest(
        network=type(run.learner.model).__name__,
        iteration=run.state.iteration,
        weights="averaged" if run.learner.average is not None else "as trained",
        config=plan.config.raw,
        classes=run.dataset.class_table.to_dict(),
        preprocessing=validated.get("transforms"),
        evaluation=plan.main_rule.to_dict(),
        versions={"paddleseg_ext": __version__, "paddle": paddle.__version__},
        training=run.state.settings() | {"device": plan.device},
    )
