"""What a TIPC chain runs: commands, what each needs, and what its results are compared with."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.tipc.format import MODES, Sections, read_sections

OUTPUT_ROOT = Path("test_tipc/output")


@dataclass(frozen=True)
class Asked:
    """What an inference run was to be run by, held against what its backend told of itself.

    Attributes:
        backend: as for `open_backend`.
        precision: `fp32`, `fp16` or `int8`.
        threads: None where any number will do.
        device: `cpu` or `gpu`.
        use_trt: TensorRT.
        batch_size: of the fullest batch; None where any will do.
    """

    backend: str
    precision: str = "fp32"
    threads: int | None = None
    device: str = "cpu"
    use_trt: bool = False
    batch_size: int | None = None


@dataclass(frozen=True)
class Run:
    """One command of a chain.

    Attributes:
        kind: train, eval, export, infer, serve, check or parity.
        name: spells the run; its log is `<name>.log`.
        command: program and arguments.
        reason: why it cannot run here; empty where it can.
        results: the folder that its predictions and counts go to, if it has one of its own.
        needs: names of the runs without whose success this one says nothing.
        asked: the backend it was to use, for inference.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    reason: str = ""
    results: Path | None = None
    needs: tuple[str, ...] = ()
    asked: Asked | None = None

    @property
    def shown_command(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class Plan:
    """What a chain runs, in order, and the folder that gets its logs."""

    model_name: str
    log_dir: Path
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Comparison:
    """What folders of results are compared with.

    Attributes:
        python: the interpreter.
        config: the yml.
        weights: the checkpoint; the eager network predicts with it.
        bundle: the `deploy.yaml` made from it.
        image_list: the images.
    """

    python: str
    config: str
    weights: Path
    bundle: Path
    image_list: str

    def run(
        self,
        name: str,
        save_dir: Path,
        results: list[str],
        needs: tuple[str, ...],
        more: Sequence[str] = (),
    ) -> Run:
        """The run that judges folders (`NAME=DIR` each) and shows the judge its faults.

        Args:
            more: further flags of `parity`.
        """
        command = (
            *(self.python, "-m", "paddleseg_ext", "parity", f"--config={self.config}"),
            *(f"--model_path={self.weights}", f"--bundle={self.bundle}"),
            *(f"--image_list={self.image_list}", f"--save_dir={save_dir}"),
            *(*more, "--negative_controls", "--stages", "static"),
            *(["--results", *results] if results else []),
        )
        return Run("parity", name, command, needs=needs)


def check_mode(mode: str, modes: tuple[str, ...]) -> str:
    """`mode`, if it is one of `modes`.

    Raises:
        UsageError: it is another chain's, or unknown (the nearest is named).
    """
    if mode in MODES and mode not in modes:
        raise UsageError(f"mode '{mode}' is not run by this chain; it runs {', '.join(modes)}")
    if mode not in modes:
        raise UsageError(f"unknown mode '{mode}'{nearest_name(mode, modes)}")
    return mode


def read_config(path: Path, kind: str) -> Sections:
    """The sections of a txt of a kind.

    Raises:
        UsageError: it is wrong, or of another kind.
    """
    found, sections = read_sections(path)
    if found != kind:
        raise UsageError(f"{path}: this chain reads '==={kind}===', the file is of '==={found}==='")
    return sections
