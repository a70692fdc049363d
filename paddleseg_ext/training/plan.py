"""All that a training will do, read once from the yml and the options, without importing Paddle."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import MissingData, UsageError, check_choice
from paddleseg_ext.common.files import require_file, require_writable
from paddleseg_ext.common.machine import resolve_device
from paddleseg_ext.common.options import from_section
from paddleseg_ext.config import Config
from paddleseg_ext.evaluation.protocol_choice import rules_of
from paddleseg_ext.images.labels import IGNORE_INDEX
from paddleseg_ext.models.starting_weights import files_to_start_from, missing_start
from paddleseg_ext.scoring.protocols import EvaluationRule, Protocol
from paddleseg_ext.training.distillation import Distillation, read_distillation
from paddleseg_ext.training.ema import EmaOptions
from paddleseg_ext.training.initialization import NAMES
from paddleseg_ext.training.optimizer import OptimizerOptions
from paddleseg_ext.training.options import WARMUP_ITERS, TrainOptions
from paddleseg_ext.training.precision import resolve_precision
from paddleseg_ext.training.run_folder import find_resume_folder, iteration_of_paddlesegs
from paddleseg_ext.training.schedules import Schedule, Warmup, build_schedule
from paddleseg_ext.training.state import TrainState
from paddleseg_ext.training.trackers import require_tracker

SHARE_OF_FIRST_WEIGHTS = 0.5  # in an average of weights; above it the run is too short


@dataclass(frozen=True)
class TrainingPlan:
    """A checked training.

    Attributes:
        config: the yml; its components are built from it.
        options: the flags.
        device: `cpu` or `gpu`.
        precision: one of `precision.PRECISIONS`.
        optimizer: the section `optimizer:`.
        schedule: the section `lr_scheduler:`.
        ema: the section `ema:`; None without one.
        distillation: the teacher; None without one.
        rules: that evaluations go by. The names of `keep_best:`, or None as the only name for
            the protocol of `test_config:`.
        resumed: the `iter_N` folder that the run continues from; None for a new run.
        begun: the iteration of a checkpoint of PaddleSeg's that `options.resume_model` names and
            the run goes on from; 0 else.
        threads: CPU threads per process.
    """

    config: Config
    options: TrainOptions
    device: str
    precision: str
    optimizer: OptimizerOptions
    schedule: Schedule
    ema: EmaOptions | None
    rules: Mapping[str | None, EvaluationRule]
    resumed: Path | None
    distillation: Distillation | None = None
    begun: int = 0
    threads: int = 1

    def warnings(self) -> list[str]:
        """Lines about weights that are missing, and parts that are not over when the run ends."""
        iters, schedule = self.config.iters, self.schedule
        lines: list[str] = []
        if self.resumed is None and not self.begun and not self.options.finetune:
            lines += filter(None, [missing_start(self.config)])
        if self.config.distill_loss is not None and self.distillation is None:
            lines.append(
                "distill_loss is not used, as in PaddleSeg's train.py: there is no teacher; give "
                "--teacher_model or --teacher_config"
            )
        if isinstance(schedule, Warmup) and schedule.warmup_iters >= iters:
            lines.append(
                f"lr_scheduler: the warm-up of {schedule.warmup_iters} iterations is not over when "
                f"the run of {iters} ends: the rate only rises to {schedule(iters - 1):.3g}; lower "
                "warmup_iters or raise iters"
            )
        if self.ema is not None and not self.ema.warmup:
            first = self.ema.decay**iters
            if first > SHARE_OF_FIRST_WEIGHTS:
                lines.append(
                    f"ema: after {iters} iterations the averaged weights, which are scored and "
                    f"deployed, are {first:.0%} those of the beginning; lower 'decay', set "
                    "'warmup: true' or raise iters"
                )
        return lines

    @property
    def protocols(self) -> Mapping[str | None, Protocol]:
        """The protocols of the rules."""
        return {name: rule.make() for name, rule in self.rules.items()}

    @property
    def main_rule(self) -> EvaluationRule:
        """The rule that decides `best_model/`."""
        return next(iter(self.rules.values()))


def check_training(config: Config) -> None:
    """Refuse what `train` would refuse of a configuration; its data may be on another machine.

    A yml of a network alone, without sections of a training, has nothing to refuse.

    Raises:
        UsageError: a key or value of one of the sections.
    """
    from paddleseg_ext.data.build import build_dataset
    from paddleseg_ext.losses.multi_head import build_loss

    ignore_index, num_classes = IGNORE_INDEX, None
    for section in ("val_dataset", "train_dataset"):
        with suppress(MissingData):
            if section in config.raw:
                dataset = build_dataset(config, section)
                ignore_index, num_classes = dataset.ignore_index, dataset.num_classes
    if {"optimizer", "lr_scheduler", "loss"} & set(config.raw):
        with suppress(MissingData):
            _read_sections(config)
    if "loss" in config.raw:
        build_loss(config, ignore_index, num_classes)


def _read_sections(config: Config) -> dict[str, Any]:
    """The checked sections that only a training reads, by their names in `TrainingPlan`."""
    check_choice("initialization", config.initialization, NAMES)
    return {
        "optimizer": OptimizerOptions.from_section(config.optimizer),
        "schedule": build_schedule(config.lr_scheduler, config.iters),
        "ema": None if config.ema is None else from_section(EmaOptions, config.ema, "ema"),
        "rules": rules_of(config),
        "distillation": read_distillation(config),
    }


def make_plan(config: Config, options: TrainOptions) -> TrainingPlan:
    """Read and check all that can be found wrong without Paddle, whose import takes seconds.

    Raises:
        UsageError: a section is missing or wrong, options contradict each other, a file is
            missing, or the folder cannot be written to.
    """
    device = resolve_device(options.device)
    options = replace(options, to_static=options.to_static or config.to_static_training)
    precision = resolve_precision(options.precision, options.amp_level, device)
    for section in ("model", "train_dataset", "loss"):
        config.section(section)
    sections = _read_sections(config)
    if options.do_eval:
        config.section("val_dataset")
    elif options.early_stop:
        raise UsageError("--early_stop needs evaluations: add --do_eval")
    if options.finetune and options.resume_model not in (None, "auto"):
        raise UsageError(
            "--finetune begins a run and --resume_model continues one: give one of them "
            "(--resume_model auto continues where there is a checkpoint, else it fine-tunes)"
        )
    if options.to_static and int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        raise UsageError("--to_static True trains in one process; several train without it")
    begun = iteration_of_paddlesegs(options.resume_model)
    plan = TrainingPlan(
        config=config,
        options=options,
        device=device,
        precision=precision,
        resumed=None
        if begun is not None
        else find_resume_folder(options.resume_model, options.save_dir),
        begun=begun or 0,
        **sections,
    )
    _check_start(plan)
    for name in options.trackers:
        require_tracker(name)
    require_writable(options.save_dir, "--save_dir")
    return plan


def _check_start(plan: TrainingPlan) -> None:
    """Check the weights that a run begins with, and that its iterations suffice for a profile."""
    config, options, done = plan.config, plan.options, 0
    if plan.resumed is not None:
        done = TrainState.read(plan.resumed).iteration
    elif plan.begun:
        done = plan.begun
        if done >= config.iters:
            raise UsageError(
                f"--resume_model {options.resume_model}: the run of {config.iters} iterations is "
                "over; raise --iters"
            )
    else:
        if options.finetune:
            require_file(options.finetune, "--finetune")
        starts = files_to_start_from(config)
        if config.freeze_bn and not (options.finetune or starts):
            raise UsageError(
                "freeze_bn: true keeps the running statistics that the network begins with, and "
                "fresh ones are of no use: give --finetune, or 'pretrained:' in the yml"
            )
    if options.profile and done + WARMUP_ITERS + options.profile > config.iters:
        raise UsageError(
            f"--profile {options.profile}: {WARMUP_ITERS} iterations come before, and the run "
            f"has {max(0, config.iters - done)} to do; raise --iters or profile fewer"
        )
