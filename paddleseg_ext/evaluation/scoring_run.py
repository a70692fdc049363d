"""Score a checkpoint on labelled images by a named protocol: what `val` does.

    evaluation = score_checkpoint(load_config("my.yml"), "model.pdparams")
    evaluation.scores.mean_iou, evaluation.counts

Nothing is written without `ScoringOptions.save_dir`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from paddleseg_ext.checkpoints.manifest import configuration_of
from paddleseg_ext.common.errors import DataError, UsageError, check_choice, check_count
from paddleseg_ext.common.files import require_file, require_writable, write_json
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.progress import track
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import build_dataset, class_table_of
from paddleseg_ext.distributed.world import joined_world
from paddleseg_ext.evaluation.eager import eager_predictor
from paddleseg_ext.evaluation.evaluator import Evaluation, EvaluationOptions, evaluate
from paddleseg_ext.evaluation.extras import ExtraOptions, Extras
from paddleseg_ext.evaluation.gather import gather
from paddleseg_ext.evaluation.image_loss import gives_logits
from paddleseg_ext.evaluation.prediction_run import check_inputs_stay
from paddleseg_ext.evaluation.protocol_choice import requested_rule
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.label_counts import fault_of
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.samples import Sample, read_sample_list
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.inference.pipeline import StreamOptions
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.metrics import ABSENT_RULES, AbsentRule
from paddleseg_ext.scoring.protocols import Protocol

RESULT_FILE = "val.json"


@dataclass(frozen=True)
class ScoringOptions:
    """How a checkpoint is scored, and what is written.

    Attributes:
        save_dir: gets val.json; None writes none.
        image_list: 'image label' lines instead of the configuration's val_dataset.
        device: `cpu` or `gpu`; None takes a GPU where the installed Paddle has one.
        protocol: how the network is run and scored: a protocol, or the name of one. None takes
            the configuration's `test_config:`.
        absent: how absent classes count; None takes the configuration's rule.
        batch_size: images per run.
        num_workers: threads beside the network's; None takes one per core.
        nearest_labels: return classes to the image's size by nearest, as a graph with arg-max.
        print_detail: progress and scores on the terminal.
        extras: further figures and files.
        source: what val.json names as its source.

    Raises:
        UsageError: a number is out of range, or the rule is unknown.
    """

    save_dir: str | Path | None = None
    image_list: str | Path | None = None
    device: str | None = None
    protocol: Protocol | str | None = None
    absent: AbsentRule | None = None
    batch_size: int = 1
    num_workers: int | None = None
    nearest_labels: bool = False
    print_detail: bool = True
    extras: ExtraOptions = field(default_factory=ExtraOptions)
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size, 1)
        check_count("num_workers", self.num_workers, 0, optional=True)
        if self.absent is not None:
            check_choice("absent", self.absent, ABSENT_RULES)


def score_checkpoint(
    config: Config | None, weights: str | Path, options: ScoringOptions = ScoringOptions()
) -> Evaluation | None:
    """Returns the scores of a checkpoint; prints them and writes `SAVE_DIR/val.json`.

    Started in several processes, each scores its share, and the first one prints and writes. A
    sample that fails is logged and left out of the counts; `Evaluation.failed` names it.

    Args:
        config: the configuration of the training; None takes that of the checkpoint's manifest,
            which needs `options.image_list`.
        weights: the `.pdparams`.
        options: how it is scored.

    Returns:
        The evaluation of all images; None where they have no labels and only a submission is
        written.

    Raises:
        UsageError: the checkpoint, the list or the protocol does not fit.
        DataError: none of the images can be read, predicted and scored.
        CheckFailed: of images without labels one has no prediction; the others are written.
    """
    require_file(weights, "--model_path")
    config = config or configuration_of(weights)
    device = resolve_device(options.device)
    protocol = _protocol_of(config, options)
    _require_writable_folders(options)
    fix_thread_count()
    samples, table, unlabelled = _samples_and_table(config, options)
    with joined_world(device) as world:
        wanted = _with_findings(options, protocol)
        extras = Extras(wanted, table, [sample.image for sample in samples])
        _check_outputs(samples, wanted, extras)
        postprocess = Postprocess(nearest_labels=options.nearest_labels)
        predictor = eager_predictor(config, weights, device, table, postprocess)
        share = world.share_of(samples)
        if unlabelled:
            _submit(by_protocol(predictor, protocol), share, extras, options)
            return None
        how = EvaluationOptions(
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            absent=options.absent or config.absent_class,
            protocol=protocol,
            show_progress=options.print_detail and world.is_first,
            print_scores=False,
            watch=extras.watch,
            watch_output=partial(extras.watch_output, postprocess) if extras.needs_output else None,
            goes_on=True,
        )
        names = [sample.name for sample in samples]
        evaluation = gather(evaluate(predictor, share, how), world, names, extras)
        if not evaluation.images:
            raise DataError(next(iter(evaluation.failed.values())))
        evaluation.require_labelled()
        if world.is_first:
            _print_and_write(evaluation, extras, predictor, str(weights), options)
        return evaluation


def _check_outputs(samples: Sequence[Sample], wanted: ExtraOptions, extras: Extras) -> None:
    if wanted.label_maps is not None:
        folder = wanted.label_maps / LABEL_MAPS
        check_inputs_stay(samples, (folder / f"{sample.name}.png" for sample in samples))
    if extras.submission is not None:
        outputs = [extras.submission.path_of(sample.image) for sample in samples]
        check_inputs_stay(samples, outputs, "--save_submission")


def _with_findings(options: ScoringOptions, protocol: Protocol) -> ExtraOptions:
    """The extras, with what a report needs to know of the run."""
    save_dir = Path(options.save_dir) if options.save_dir and options.extras.report_dir else None
    has_loss = gives_logits(protocol) and not options.nearest_labels
    return replace(options.extras, label_maps=save_dir, with_loss=has_loss)


def _protocol_of(config: Config, options: ScoringOptions) -> Protocol:
    """The protocol that was asked for, or that of the yml's `test_config`."""
    if isinstance(options.protocol, Protocol):
        return options.protocol
    wanted = {"protocol": options.protocol} if options.protocol else config.test_config
    return requested_rule(wanted).make()


def _require_writable_folders(options: ScoringOptions) -> None:
    folders = {"--save_dir": options.save_dir, "--report": options.extras.report_dir}
    folders["--save_submission"] = options.extras.submission_dir
    for flag, folder in folders.items():
        if folder:
            require_writable(folder, flag)


def _samples_and_table(
    config: Config, options: ScoringOptions
) -> tuple[Sequence[Sample], ClassTable, bool]:
    """The samples, their classes, and whether there is nothing to score."""
    if options.image_list:
        samples, table = read_sample_list(options.image_list), class_table_of(config)
    elif config.classes is not None and "dataset_root" not in config.val_dataset:
        raise UsageError(
            "--config or --image_list is expected: a checkpoint's manifest names no data"
        )
    else:
        dataset = build_dataset(config, "val_dataset")
        samples, table = dataset.samples, dataset.class_table
    source = options.image_list or f"{config.path}: val_dataset"
    check_labels(samples, str(source), options.extras)
    if samples[0].label is None:
        return samples, table, True
    fault = fault_of((sample.label for sample in samples), table)
    if fault and not options.extras.submission_dir:
        raise UsageError(f"{source}: {fault}")
    if fault:
        warn(f"nothing is scored: {fault}")
    return samples, table, bool(fault)


def _submit(
    predictor: Predictor, share: Sequence[Sample], extras: Extras, options: ScoringOptions
) -> None:
    """Only write the submission: the images have no labels, as the test server's."""
    asked = extras.options
    of_labels = {
        "bootstrap": asked.resamples,
        "boundary_f1": asked.boundary_f1,
        "boundary_iou": asked.boundary_iou,
        "auc_roc": asked.auc_roc,
        "report": asked.report_dir,
    }
    for flag, wanted in of_labels.items():
        if wanted:
            raise UsageError(f"--{flag} needs labels, and these images have none")
    stream = StreamOptions(options.batch_size, options.num_workers)
    predictions = predictor.stream(share, stream)
    assert extras.submission is not None
    count = extras.submission.add_all(track(predictions, "predict", total=len(share)))
    log(f"{count} predictions without labels written to {extras.options.submission_dir}")


def _print_and_write(
    evaluation: Evaluation,
    extras: Extras,
    predictor: Predictor,
    weights: str,
    options: ScoringOptions,
) -> None:
    """The `[EVAL]` lines, the JSON and, where it is asked for, the report."""
    figures = extras.figures(evaluation)
    if extras.ranks is not None:
        evaluation = replace(evaluation, auc_roc=extras.ranks.area())
    if options.print_detail:
        evaluation.print_lines()
        counts = evaluation.label_counts
        (warn if counts.absent else log)(f"labels: {counts.summary()}")
        for line in extras.lines(figures):
            log(line)
    if options.save_dir is not None:
        result = {
            "source": options.source,
            "errors": list(evaluation.failed.values()),
            "resize_back": predictor.postprocess.resize_back,
            "backend": predictor.describe(again=True).to_dict(),
            "evaluation": evaluation.to_json(),
        }
        path = Path(options.save_dir) / RESULT_FILE
        write_json(path, result | figures)
        log(f"scores and counts written to {path}")
    if evaluation.failed:
        total = len(evaluation.images) + len(evaluation.failed)
        log(f"{len(evaluation.failed)} of {total} samples failed", "ERROR")
    if extras.options.report_dir:
        page = extras.write_report(f"Evaluation of {weights}", evaluation, figures)
        log(f"report written to {page}")


def check_labels(samples: Sequence[Sample], source: str, extras: ExtraOptions) -> None:
    """Refuse samples without labels, unless none has one and only a submission is written.

    Raises:
        UsageError: naming how many have none, and the first.
    """
    missing = [sample for sample in samples if sample.label is None]
    if missing and not (extras.submission_dir and len(missing) == len(samples)):
        raise UsageError(
            f"{source}: {len(missing)} of {len(samples)} images have no label to score against, "
            f"the first is {missing[0].image}"
        )
