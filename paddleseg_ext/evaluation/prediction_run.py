"""Predict samples, save the pictures, score where there are labels: `predict` and `infer`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import STATUS_DONE, STATUS_FAILED, UsageError
from paddleseg_ext.common.files import write_json, write_text
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import Counted, Evaluation, Scorer
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.inference.benchmark import Benchmark
from paddleseg_ext.inference.outputs import SUFFIXES, result_file, save_segmentation
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.metrics import AbsentRule
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol

WARM_UP_RUNS = 3


@dataclass(frozen=True)
class RunSettings:
    """How a run is done and where its results go.

    Attributes:
        title: `predict` or `inference`: names the printed section and the JSON file.
        source: what ran: the config, checkpoint or bundle, for the JSON.
        num_workers: threads beside the network's; None takes one per core. A benchmark has none.
        streams: batches that the engine runs at a time.
        legend: names and shares of the classes below each overlay.
        benchmark_log: a file that gets the benchmark's lines too.
    """

    title: str
    save_dir: Path
    batch_size: int = 1
    num_workers: int | None = None
    streams: int = 1
    absent: AbsentRule = "skip"
    print_detail: bool = True
    legend: bool = False
    benchmark: bool = False
    benchmark_log: Path | None = None
    model_name: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL]


def check_inputs_stay(
    samples: Sequence[SampleLike], outputs: Iterable[Path], flag: str = "--save_dir"
) -> None:
    """Refuse a run that would write over what it reads; before anything is written.

    Args:
        samples: whose images and labels are read.
        outputs: files that will be written.
        flag: what puts the outputs where they are.

    Raises:
        UsageError: one of them is an image or a label.
    """
    # Files are replaced by name, so a link's own name counts, and not what it points to.
    taken = {_place(path) for path in outputs if path.exists()}
    if not taken:
        return
    for sample in samples:
        for path in (sample.image, sample.label):
            if path is not None and {_place(path), path.resolve()} & taken:
                raise UsageError(
                    f"{flag}: '{path}' is an input, and a result would replace it; give another "
                    "folder"
                )


def _place(path: Path) -> Path:
    return path.parent.resolve() / path.name


def output_files(samples: Iterable[SampleLike], save_dir: Path) -> Iterator[Path]:
    """Files that `predict_and_save` may write, one of each kind per sample."""
    for sample in samples:
        yield from (result_file(save_dir, kind, sample.name) for kind in SUFFIXES)


def predict_and_save(
    predictor: Predictor, samples: Sequence[SampleLike], settings: RunSettings
) -> int:
    """Predict every sample, write its pictures, score it where it has a label.

    Samples that fail are reported and left out; the others are done.

    Returns:
        The exit status: 1 where a sample failed.
    """
    marks_unknown = predictor.unknown_below is not None
    scorer = Scorer(predictor.class_table, settings.absent, settings.protocol, marks_unknown)
    warm_up_runs = WARM_UP_RUNS if settings.benchmark else 0

    def save_and_count(prediction: Prediction) -> Counted | None:
        assert prediction.segmentation is not None
        name, save_dir = prediction.sample.name, settings.save_dir
        save_segmentation(prediction.segmentation, name, save_dir, settings.legend)
        return scorer.count_prediction(prediction) if prediction.sample.label is not None else None

    benchmark = Benchmark(
        predictor.describe(), settings.model_name, settings.batch_size, warm_up_runs
    )
    stream = StreamOptions(
        settings.batch_size,
        num_workers=0 if settings.benchmark else settings.num_workers,  # each part timed alone
        streams=settings.streams,
        warm_up_runs=warm_up_runs,
        finish=save_and_count,
    )
    predictions: Iterable[Prediction] = by_protocol(predictor, settings.protocol).stream(
        samples, stream
    )
    if settings.print_detail:
        predictions = track(predictions, settings.title, total=len(samples))
    errors, fullest = [], 0
    for prediction in predictions:
        if prediction.segmentation is None:
            errors.append(prediction.error or f"{prediction.sample.image}: no prediction")
            log(errors[-1], "ERROR")
            continue
        if prediction.finished is not None:
            scorer.add_counted(prediction.finished)
        fullest = max(fullest, prediction.segmentation.batch_size)
        benchmark.add(prediction.segmentation)
    benchmark.report = predictor.describe(again=True)  # the graph as it ran
    evaluation = _evaluation_of(scorer)
    _write_result(evaluation, benchmark, errors, fullest, settings)
    _report(evaluation, benchmark, settings)
    if errors:
        log(f"{len(errors)} of {len(samples)} samples failed", "ERROR")
    return STATUS_FAILED if errors else STATUS_DONE


def _evaluation_of(scorer: Scorer) -> Evaluation | None:
    """The scores of the images that have labels; None without them and where they cannot be meant.

    That is a line and no error: the predictions were asked for.
    """
    evaluation = scorer.result()
    if fault := evaluation.label_counts.fault():
        warn(f"nothing is scored: {fault}")
    return None if fault or not evaluation.images else evaluation


def _report(evaluation: Evaluation | None, benchmark: Benchmark, settings: RunSettings) -> None:
    done = len(benchmark.timings)
    log(f"{done} predictions written to {settings.save_dir}")
    if evaluation is not None and settings.print_detail:
        for line in evaluation.section_lines(settings.title):
            print(line, flush=True)
    if settings.benchmark and done:
        lines = benchmark.lines()
        for line in lines:
            log(line)
        if settings.benchmark_log is not None:
            write_text(settings.benchmark_log, "\n".join(lines) + "\n")


def _write_result(
    evaluation: Evaluation | None,
    benchmark: Benchmark,
    errors: Sequence[str],
    fullest: int,
    settings: RunSettings,
) -> None:
    result = {
        "title": settings.title,
        "source": settings.source,
        "backend": benchmark.report.to_dict(),
        "batch_size": settings.batch_size,
        "fullest_batch": fullest,
        "num_predicted": len(benchmark.timings),
        "errors": list(errors),
        "timings_ms": benchmark.stage_ms() if settings.benchmark else None,
        "evaluation": evaluation.to_json() if evaluation is not None else None,
    }
    write_json(settings.save_dir / f"{settings.title}.json", result)
