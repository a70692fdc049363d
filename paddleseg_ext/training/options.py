"""What a training run is told beside its yml."""

from dataclasses import dataclass
from pathlib import Path

# Before --profile begins: the first iterations allocate memory and choose algorithms.
WARMUP_ITERS = 2


@dataclass(frozen=True)
class TrainOptions:
    """The flags of `train.py` that do not change the yml.

    Attributes:
        save_dir: the run's folder.
        device: `cpu` or `gpu`.
        seed: of weights, order and augmentation.
        save_interval: iterations between checkpoints (and evaluations).
        log_iters: iterations between progress lines.
        num_workers: processes that read samples; 0 reads in a thread of this one.
        keep_checkpoint_max: how many `iter_N` are kept.
        use_vdl: write a VisualDL log.
        resume_model: the `iter_N` folder to go on from, or `auto` for the newest in `save_dir`.
        threads: CPU threads a process, as `common.machine.fix_thread_count` set them.
        precision: one of `training.precision.PRECISIONS`.
        early_stop: evaluations without a better mIoU after which the run ends; 0 for never.
        finetune: the checkpoint to start from, whose heads may have another class count.
        profile: iterations whose time is taken apart; 0 for none.
        to_static: train the network's static graph.
    """

    save_dir: Path
    device: str
    seed: int
    save_interval: int
    log_iters: int
    num_workers: int
    keep_checkpoint_max: int
    use_vdl: bool
    resume_model: str | None
    threads: int
    precision: str = "fp32"
    early_stop: int = 0
    finetune: str | None = None
    profile: int = 0
    to_static: bool = False
