"""What `predict.py` and `infer.py` do alike: predict, save, score where there are labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import STATUS_DONE, STATUS_FAILED, DataError
from paddleseg_ext.common.files import write_json, write_text
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.labels import ClassTable
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.protocols import predict_by_protocol
from paddleseg_ext.inference.backends.base import Backend
from paddleseg_ext.inference.benchmark import Benchmark
from paddleseg_ext.inference.outputs import save_prediction
from paddleseg_ext.inference.pipeline import Prediction, SampleLike
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.scoring.metrics import AbsentRule
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol

WARM_UP_RUNS = 3


@dataclass(frozen=True)
class RunSettings:
    """How a run is done and where its results go.

    Attributes:
        title: `predict` or `inference`: names the printed section and the JSON file.
        source: what ran: the config, checkpoint or bundle, for the JSON.
        benchmark_log: a file that gets the benchmark's lines too.
    """

    title: str
    save_dir: Path
    batch_size: int = 1
    absent: AbsentRule = "skip"
    print_detail: bool = True
    benchmark: bool = False
    benchmark_log: Path | None = None
    model_name: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL]


def predict_and_save(
    backend: Backend,
    samples: Sequence[SampleLike],
    preprocess: Preprocess,
    postprocess: Postprocess,
    class_table: ClassTable,
    settings: RunSettings,
) -> int:
    """Predict every sample, write its pictures, score it where it has a label.

    Samples that fail are reported and left out; the others are done.

    Returns:
        The exit status: 1 where a sample failed.
    """
    scorer = Scorer(class_table, settings.absent, settings.protocol)
    description = backend.describe()
    warm_up_runs = WARM_UP_RUNS if settings.benchmark else 0
    benchmark = Benchmark(description, settings.model_name, settings.batch_size, warm_up_runs)
    predictions: Iterable[Prediction] = predict_by_protocol(
        settings.protocol,
        backend,
        samples,
        preprocess,
        postprocess,
        settings.batch_size,
        warm_up_runs=warm_up_runs,
    )
    if settings.print_detail:
        predictions = track(predictions, settings.title, total=len(samples))
    errors = []
    for prediction in predictions:
        try:
            _save_and_score(prediction, settings.save_dir, class_table, scorer)
            benchmark.add(prediction)
        except DataError as error:
            errors.append(str(error))
            log(str(error), "ERROR")
    _report(scorer, benchmark, errors, settings)
    _write_result(scorer, benchmark, errors, settings)
    if errors:
        log(f"{len(errors)} of {len(samples)} samples failed", "ERROR")
    return STATUS_FAILED if errors else STATUS_DONE


def _save_and_score(
    prediction: Prediction, save_dir: Path, class_table: ClassTable, scorer: Scorer
) -> None:
    if prediction.error is not None:
        raise DataError(prediction.error)
    save_prediction(prediction, save_dir, class_table)
    if prediction.sample.label is not None:
        scorer.add(prediction)


def _report(
    scorer: Scorer, benchmark: Benchmark, errors: Sequence[str], settings: RunSettings
) -> None:
    done = len(benchmark.timings)
    log(f"{done} predictions written to {settings.save_dir}")
    if scorer.num_images and settings.print_detail:
        for line in scorer.result().section_lines(settings.title):
            print(line, flush=True)
    if settings.benchmark and done:
        lines = benchmark.lines()
        for line in lines:
            log(line)
        if settings.benchmark_log is not None:
            write_text(settings.benchmark_log, "\n".join(lines) + "\n")


def _write_result(
    scorer: Scorer, benchmark: Benchmark, errors: Sequence[str], settings: RunSettings
) -> None:
    result = {
        "title": settings.title,
        "source": settings.source,
        "backend": benchmark.backend,
        "batch_size": settings.batch_size,
        "num_predicted": len(benchmark.timings),
        "errors": list(errors),
        "timings_ms": benchmark.stage_ms() if settings.benchmark else None,
        "evaluation": scorer.result().to_json() if scorer.num_images else None,
    }
    write_json(settings.save_dir / f"{settings.title}.json", result)
