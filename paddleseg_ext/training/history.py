"""The losses and scores of a run: `history.json`, with one writer and one reader."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.files import require_file, write_json
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.common.options import from_section

HISTORY = "history.json"
_PROTOCOL_PREFIX = "eval_"
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class LossEntry:
    """The mean loss since the previous entry, and the learning rate of iteration `iter`.

    `l2_loss` is the term of weight decay that the optimizer adds, of the weights at `iter`
    (`optimizer.l2_loss`); None without weight decay. `head_losses` are the losses of the heads,
    main head first, without their weights. A history of an earlier release has neither.
    `distillation_loss` is what a teacher adds to `loss`, which contains it; None without one.
    """

    iter: int
    loss: float
    lr: float
    l2_loss: float | None = None
    head_losses: tuple[float, ...] = ()
    distillation_loss: float | None = None


@dataclass(frozen=True)
class ScoreEntry:
    """Scores, 0 to 1, of the weights of iteration `iter`."""

    iter: int
    mean_iou: float
    accuracy: float


@dataclass(frozen=True)
class EarlyStop:
    """The iteration at which a run ended, after evaluations without a better mIoU."""

    iter: int
    evaluations: int
    best_iter: int


@dataclass
class History:
    """A run so far, in the order of its iterations.

    Attributes:
        train: one entry per log line.
        eval: one entry per evaluation, by the protocol of `best_model/`.
        by_protocol: the same for each further protocol of `keep_best:`.
        early_stop: where the run ended early.
    """

    train: list[LossEntry] = field(default_factory=list)
    eval: list[ScoreEntry] = field(default_factory=list)
    by_protocol: dict[str, list[ScoreEntry]] = field(default_factory=dict)
    early_stop: EarlyStop | None = None

    def scores(self) -> dict[str | None, list[ScoreEntry]]:
        """Evaluations by protocol; None is the protocol of `best_model/`."""
        names = [None, *self.by_protocol]
        return dict(zip(names, [self.eval, *self.by_protocol.values()], strict=True))

    @classmethod
    def read(cls, path: Path) -> "History":
        """The history in a file.

        Raises:
            DataError: it is missing, damaged, or another file.
        """
        try:
            require_file(path, "history of a run")
            content: dict[str, Any] = read_json(path)
            stops = content.pop("early_stop", [])
            losses, scores = content.pop("train"), content.pop("eval")
            return cls(
                [from_section(LossEntry, entry, "train") for entry in losses],
                _scores(scores),
                {k.removeprefix(_PROTOCOL_PREFIX): _scores(v) for k, v in content.items()},
                from_section(EarlyStop, stops[-1], "early_stop") if stops else None,
            )
        except (*_DAMAGE, UsageError) as error:
            raise DataError(
                f"{path}: a history.json of train.py is expected, and this is not one ({error})"
            ) from None

    def write(self, path: Path) -> None:
        """Write the file."""
        content: dict[str, Any] = {"train": _plain(self.train), "eval": _plain(self.eval)}
        for name, scores in self.by_protocol.items():
            content[_PROTOCOL_PREFIX + name] = _plain(scores)
        if self.early_stop is not None:
            content["early_stop"] = _plain([self.early_stop])
        write_json(path, content)

    def up_to(self, iteration: int, evaluated: bool) -> "History":
        """The history of a run that continues from `iteration`.

        Args:
            iteration: the last one that is kept.
            evaluated: whether its scores are kept, too; else they will be noted once more.
        """
        last = iteration if evaluated else iteration - 1
        return History(
            [entry for entry in self.train if entry.iter <= iteration],
            [entry for entry in self.eval if entry.iter <= last],
            {k: [entry for entry in v if entry.iter <= last] for k, v in self.by_protocol.items()},
        )


def _scores(entries: list[Any]) -> list[ScoreEntry]:
    return [from_section(ScoreEntry, entry, "eval") for entry in entries]


def _plain(entries: list[Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(entry).items() if v not in (None, ())} for entry in entries]
