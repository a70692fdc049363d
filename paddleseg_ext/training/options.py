"""Options of a training that a yml does not hold, and flags that change keys of a yml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.training.trackers import TrackerName

# Before --profile begins: the first iterations allocate memory and choose algorithms.
WARMUP_ITERS = 2


@dataclass(frozen=True)
class YmlOverrides:
    """Keys of the yml that have a flag of their own: keywords of `config.load_config`."""

    iters: int | None = option(None, "iterations (as in the yml unless given)", at_least=1)
    batch_size: int | None = option(None, "samples of a batch (as in the yml)", at_least=1)
    learning_rate: float | None = option(None, "base rate (as in the yml)", above=0)
    accumulate: int | None = option(
        None,
        "batches whose gradients an iteration adds up (as in the yml, or 1)",
        at_least=1,
        metavar="N",
    )
    teacher_model: str | None = option(
        None, "weights of the network that this one learns from, too", metavar="PDPARAMS"
    )
    teacher_config: str | None = option(
        None,
        "the teacher's yml (default: in the manifest of its weights)",
        names=("--teather_config",),  # so in PaddleSeg
        metavar="YML",
    )


@dataclass(frozen=True)
class TrainOptions(CheckedOptions):
    """The flags of `train` that do not change the yml.

    Attributes:
        device: `cpu` or `gpu`; None takes a GPU where the installed Paddle has one.
    """

    save_dir: Path = option(Path("output"), "the run's folder")
    save_interval: int = option(
        1000, "iterations between checkpoints and, with --do_eval, evaluations", at_least=1
    )
    log_iters: int = option(10, "iterations between log lines", at_least=1)
    num_workers: int = option(
        0, "processes that read and augment samples; 0 uses a thread", at_least=0
    )
    do_eval: bool = option(False, "evaluate at every checkpoint and keep best_model/")
    use_vdl: bool = option(False, "the same as --log_with vdl")
    log_with: tuple[TrackerName, ...] | None = option(
        None, "curves and pictures for VisualDL (vdl) or tensorboard, in SAVE_DIR/vdl, tensorboard"
    )
    seed: int = option(
        0,
        "of weights, order and augmentation; same seed, same machine: same result to the bit",
        at_least=0,
    )
    resume_model: str | None = option(
        None, "continue from this iter_N folder, or 'auto' for the newest", metavar="DIR"
    )
    keep_checkpoint_max: int = option(5, "iter_N folders kept", at_least=1)
    precision: Literal["fp32", "amp_O1", "amp_O2", "fp16"] = option(
        "fp32", "mixed precision, on a GPU; fp16 is PaddleSeg's name for amp_O1"
    )
    amp_level: Literal["O1", "O2"] | None = option(
        None, "with --precision fp16, as PaddleSeg has it"
    )
    early_stop: int = option(
        0,
        "end after N evaluations without a better mIoU; 0: never",
        at_least=0,
        names=("--early_stop_intervals",),
        metavar="N",
    )
    finetune: str | None = option(
        None,
        "start from a whole network; only what depends on the class count may differ",
        metavar="PDPARAMS",
    )
    to_static: bool = option(
        False, "train in static graph, as export sees the network; one process"
    )
    profile: int = option(
        0,
        "measure N iterations by stage and operator; SAVE_DIR/profile.json, profile_trace.json",
        at_least=0,
        metavar="N",
    )
    device: Literal["cpu", "gpu"] | None = None

    @property
    def trackers(self) -> list[TrackerName]:
        """The logs to write, each once."""
        vdl: list[TrackerName] = ["vdl"] if self.use_vdl else []
        return list(dict.fromkeys([*vdl, *(self.log_with or ())]))
