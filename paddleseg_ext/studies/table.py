"""Runs as rows of a table: one row per configuration, its seeds as mean and deviation.

A mean is over finished runs of different seeds. Two rows are compared by the differences of the
seeds that both have (Student's t interval of paired differences), never by their means alone: runs
of one seed share order and augmentation.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from paddleseg_ext.common.errors import UsageError, shortened
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.config import check_config
from paddleseg_ext.evaluation.protocol_choice import rules_of
from paddleseg_ext.training.curves import best_of
from paddleseg_ext.training.history import HISTORY, History
from paddleseg_ext.training.run_folder import RECORD, leaves_of, newest_manifests
from paddleseg_ext.training.run_record import read_record

CONFIDENCE = 0.95
ScoreChoice = Literal["best", "last"]
_SEED_FOLDER = re.compile(r"seed_(\d+)")
_DEEPEST = 4  # folders below RUN in which runs are looked for
_NOT_RUNS = re.compile(r"iter_\d+|best_model.*|previous_runs|vdl|tensorboard")


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run, from the files of its folder.

    Attributes:
        config: as its checkpoints or record have it.
        seed: None where nothing says it.
        num_classes: of the network; None where nothing says it.
        weights: sha256 of its checkpoints.
        data: of `run_record.Start`; empty for runs of an earlier release.
        settings: beside the configuration, that must be equal in one row.
    """

    folder: Path
    config: Mapping[str, Any]
    seed: int | None
    num_classes: int | None
    weights: frozenset[str]
    data: Mapping[str, Any]
    history: History
    settings: tuple[Any, ...] = ()

    @property
    def iterations(self) -> int:
        """The last one that was logged."""
        return self.history.train[-1].iter if self.history.train else 0

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to the end, or stopped early."""
        done = self.iterations >= self.config.get("iters", math.inf)
        return done or self.history.early_stop is not None

    @property
    def name(self) -> str:
        """Of the folder; of the one above it for `seed_N`."""
        folder = self.folder.resolve()
        return folder.parent.name if _SEED_FOLDER.fullmatch(folder.name) else folder.name

    def score(self, choice: ScoreChoice, protocol: str | None) -> float | None:
        """The mIoU of the best or the last evaluation by a protocol; None without one."""
        entries = self.history.scores().get(protocol, [])
        if not entries:
            return None
        best = best_of(entries) if choice == "best" else entries[-1]
        return best.mean_iou if best else None


@dataclass(frozen=True)
class PairedDifference:
    """This row minus the first one in mIoU, over the seeds that both have.

    Attributes:
        low: of the `CONFIDENCE` interval; None for fewer than two seeds.
        seeds: number of pairs.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int


@dataclass
class RunRow:
    """The runs of one configuration.

    Attributes:
        scores: seed -> mIoU, 0 to 1, of the finished runs that were evaluated.
        parameters: that run at inference; None where the network could not be built.
        speeds: runtime -> images per second, where measured.
    """

    name: str
    runs: list[Run]
    scores: dict[int | None, float] = field(default_factory=dict)
    parameters: int | None = None
    multiply_adds: int | None = None
    speeds: dict[str, float] = field(default_factory=dict)
    difference: PairedDifference | None = None

    @property
    def mean(self) -> float | None:
        """Mean mIoU over the seeds; None of none."""
        return mean(self.scores.values()) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def network(self) -> str:
        """Type of the network, with its variant and backbone where it has any."""
        model = self.runs[0].config.get("model") or {}
        backbone = model.get("backbone")
        parts = [model.get("type"), model.get("variant")]
        parts.append(backbone.get("type") if isinstance(backbone, Mapping) else None)
        return " ".join(str(part) for part in parts if part)


@dataclass
class Table:
    """Rows and the lines that must be read with them."""

    rows: list[RunRow]
    score: ScoreChoice
    input_hw: tuple[int, int]
    notes: list[str]


def make_table(
    folders: Sequence[str | Path],
    score: ScoreChoice = "best",
    protocol: str | None = None,
    input_hw: tuple[int, int] = (1024, 2048),
    benches: Sequence[str | Path] = (),
) -> Table:
    """The table of runs; the first row is what the others are compared with.

    Args:
        folders: of runs, or of folders with runs in them.
        score: whether the best or the last evaluation of each run counts.
        protocol: of `keep_best:`; None for that of `best_model/`.
        input_hw: of the image that multiply-adds are counted for.
        benches: files bench.json, whose speeds of the runs' exported weights are taken.

    Raises:
        UsageError: a folder without runs, a damaged file, or no run by that protocol.
    """
    runs = [run for folder in folders for run in find_runs(Path(folder))]
    if protocol is not None and not any(protocol in run.history.by_protocol for run in runs):
        known = sorted({name for run in runs for name in run.history.by_protocol})
        raise UsageError(f"--protocol {protocol}: no run has it (they have: {known or 'none'})")
    rows, notes = group(runs), []
    for row in rows:
        notes += _take_scores(row, score, protocol)
        row.parameters, row.multiply_adds = _cost(row, input_hw, notes)
    notes += _take_speeds(rows, benches)
    for row in rows[1:]:
        row.difference = paired_difference(rows[0].scores, row.scores)
    return Table(rows, score, input_hw, [*_rules(rows, score, protocol), *notes])


def find_runs(folder: Path) -> list[Run]:
    """The run of a folder, or those in its sub-folders, by name.

    Raises:
        UsageError: there is none.
    """
    found = list(_runs_below(folder, 0))
    if not found:
        raise UsageError(f"{folder}: no run is in it (a folder with {HISTORY} is expected)")
    return found


def _runs_below(folder: Path, depth: int) -> Iterator[Run]:
    if (folder / HISTORY).is_file():
        yield read_run(folder)
    elif depth < _DEEPEST and folder.is_dir():
        for inner in sorted(folder.iterdir(), key=_with_numbers):
            if inner.is_dir() and not _NOT_RUNS.fullmatch(inner.name):
                yield from _runs_below(inner, depth + 1)


def _with_numbers(path: Path) -> list[Any]:
    """A key that sorts seed_10 after seed_9."""
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)]


def read_run(folder: Path) -> Run:
    """A run by its record, or for an earlier release by the manifests of its checkpoints.

    Raises:
        UsageError: neither is there, or a file is damaged.
    """
    run = _read_run(folder)
    check_config(dict(run.config), folder)
    return run


def _read_run(folder: Path) -> Run:
    history = History.read(folder / HISTORY)
    manifests = newest_manifests(folder)
    weights = frozenset(manifest.sha256 for manifest in manifests)
    if (folder / RECORD).exists():
        start = read_record(folder)[-1]
        return Run(
            folder=folder,
            config=start.config,
            seed=start.seed,
            num_classes=start.num_classes,
            weights=weights,
            data=start.data,
            history=history,
            settings=(start.options.get("precision"), start.machine.get("processes")),
        )
    for manifest in manifests:
        if isinstance(manifest.config, dict):
            of_run, names = manifest.training, (manifest.classes or {}).get("class_names")
            return Run(
                folder=folder,
                config=manifest.config,
                seed=of_run.get("seed"),
                num_classes=len(names) if names else None,
                weights=weights,
                data={},
                history=history,
                settings=(of_run.get("precision"), of_run.get("world_size")),
            )
    raise UsageError(
        f"{folder}: it has neither {RECORD} nor a checkpoint that says how it was made"
    )


def group(runs: Sequence[Run]) -> list[RunRow]:
    """Rows of runs with equal configurations, in the order of their first run."""
    rows: dict[str, RunRow] = {}
    for run in runs:
        key = repr((sorted(leaves_of(run.config).items()), run.settings))
        rows.setdefault(key, RunRow(run.name, [])).runs.append(run)
    for row in rows.values():
        row.name = _common_name([run.name for run in row.runs])
    names = [row.name for row in rows.values()]
    for row in rows.values():  # equal names get the folder above in front
        if names.count(row.name) > 1:
            row.name = "/".join(row.runs[0].folder.resolve().parts[-2:])
    return list(rows.values())


def _common_name(names: Sequence[str]) -> str:
    """The name, or what several begin with: v1_seed0, v1_seed1 are v1_seed."""
    first, last = min(names), max(names)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:length].rstrip("_-. ") or names[0]


def _take_scores(row: RunRow, choice: ScoreChoice, protocol: str | None) -> list[str]:
    """Fill a row's scores; returns a line per run that does not count."""
    notes = []
    for run in row.runs:
        value = run.score(choice, protocol)
        if not run.is_finished:
            of = run.config.get("iters", "?")
            notes.append(f"{run.folder}: left out: iteration {run.iterations} of {of}")
        elif value is None:
            notes.append(f"{run.folder}: left out: never evaluated")
        elif run.seed in row.scores:
            notes.append(f"{run.folder}: left out: seed {run.seed} counts once")
        else:
            row.scores[run.seed] = value
    return notes


def paired_difference(
    first: Mapping[int | None, float], second: Mapping[int | None, float]
) -> PairedDifference | None:
    """Second minus first over their common seeds; None without any."""
    pairs = [second[s] - first[s] for s in first if s is not None and s in second]
    if not pairs:
        return None
    value, count = mean(pairs), len(pairs)
    if count == 1:
        return PairedDifference(value, None, None, 1)
    with optional_imports("table", "cpu"):
        from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(pairs) / math.sqrt(count)
    return PairedDifference(value, value - half, value + half, count)


def _cost(
    row: RunRow, input_hw: tuple[int, int], notes: list[str]
) -> tuple[int | None, int | None]:
    """Parameters at inference and multiply-adds of a row's network."""
    from paddleseg_ext.checkpoints.manifest import require_harmless, without_pretrained
    from paddleseg_ext.export.cost import count_cost
    from paddleseg_ext.models.build import build_model

    run = row.runs[0]
    raw = {k: run.config[k] for k in ("model", "registry") if k in run.config}
    try:
        raw = without_pretrained(raw)
        require_harmless(raw, str(run.folder))
        config = check_config(raw, run.folder)
        num_classes = run.num_classes or config.model.get("num_classes")
        if num_classes is None:
            raise UsageError("the number of classes is not recorded")
        cost = count_cost(build_model(config, num_classes), [1, 3, *input_hw])
    except UsageError as error:
        notes.append(f"{row.name}: cost not counted: {error}")
        return None, None
    return cost.used_parameters, cost.multiply_adds


def _take_speeds(rows: Sequence[RunRow], benches: Sequence[str | Path]) -> list[str]:
    """Fill the rows' speeds from bench.json; returns lines about what was left out.

    Raises:
        UsageError: a file is no bench.json.
    """
    notes, used = [], False
    for path in benches:
        speeds, processor = _read_bench(path)
        for checkpoint, stage, speed in speeds:
            for row in rows:
                if any(checkpoint == sha256 for run in row.runs for sha256 in run.weights):
                    used = True
                    if speed is None:
                        notes.append(f"{row.name}: {stage}: no speed, since its parity failed")
                    else:
                        row.speeds[stage] = max(speed, row.speeds.get(stage, 0.0))
        notes.append(f"speed: network and label map, batch 1, median, fastest setting, {processor}")
    if benches and not used:
        notes.append("speed: no bench.json measured weights of these runs")
    return notes


def _read_bench(path: str | Path) -> tuple[list[tuple[str, str, float | None]], str]:
    """Weights' sha256, runtime and images per second of each measurement, and the processor.

    The speed is None where parity failed.

    Raises:
        UsageError: the file is no bench.json.
    """
    try:
        content = read_json(path)
        speeds = [
            (
                str(result["checkpoint"]),
                str(result["stage"]),
                1000 / result["labels_ms"]["p50"] if result.get("parity") != "FAILED" else None,
            )
            for result in content["results"]
        ]
        return speeds, str(content["machine"].get("cpu", "unknown processor"))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ZeroDivisionError,
    ) as error:
        raise UsageError(f"--bench {path}: a bench.json of bench is expected ({error})") from None


def _rules(rows: Sequence[RunRow], score: ScoreChoice, protocol: str | None) -> list[str]:
    """Lines about what the figures are, and where rows are not comparable."""
    which = {
        "best": "best evaluation of each run, chosen on the images that it is scored on",
        "last": "last evaluation of each run",
    }[score]
    lines = [f"mIoU: {which}; mean and sample standard deviation over n seeds"]
    described = list(dict.fromkeys(_protocol_of(row, protocol) for row in rows))
    lines.append(f"protocol: {'; '.join(described)}")
    if len(described) > 1:
        lines.append("the protocols differ: these figures are not comparable")
    for section in ("train_dataset", "val_dataset"):
        digests = {
            run.data[section].get("sha256")
            for row in rows
            for run in row.runs
            if section in run.data
        }
        if len(digests) > 1:
            lines.append(f"{section} differs between the runs, by its sha256")
    if len(rows) > 1:
        lines.append(
            f"difference: to {rows[0].name}, over the seeds of both, {CONFIDENCE:.0%} interval of "
            "Student's t"
        )
    unknown = [row.name for row in rows if None in row.scores]
    if unknown:
        lines.append(f"the seed is not recorded: {shortened(unknown)}")
    return lines


def _protocol_of(row: RunRow, protocol: str | None) -> str:
    run = row.runs[0]
    try:
        rules = rules_of(check_config(dict(run.config), run.folder))
    except UsageError as error:
        return f"unknown ({error})"
    rule = rules.get(protocol) or next(iter(rules.values()))
    return rule.describe()
