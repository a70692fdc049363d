"""The plan of a TIPC chain: its commands, what each needs, and how its results are compared."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.tipc import txt
from paddleseg_ext.tipc.verbs import PROGRAM

OUTPUT_ROOT = Path("test_tipc/output")


@dataclass(frozen=True)
class ChainRun:
    """One command of a chain.

    Attributes:
        kind: train, eval, export, infer, serve, check or parity.
        name: spells the run; its log is `<name>.log`.
        command: program and arguments.
        reason: why it cannot run here; empty where it can.
        results: the folder of its predictions and counts, if it has one of its own.
        needs: names of the runs that must succeed before this one.
        runtime: that an inference must use.
        batch_size: that its fullest batch must have; None where any will do.
        verdict: the `results.json` that a comparison writes.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    reason: str = ""
    results: Path | None = None
    needs: tuple[str, ...] = ()
    runtime: RuntimeSpec | None = None
    batch_size: int | None = None
    verdict: Path | None = None

    @property
    def shown_command(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class Judgement:
    """A verdict on folders of results.

    Attributes:
        name: of the run.
        config: the yml.
        weights: the checkpoint; the eager network predicts with it.
        bundle: the `deploy.yaml` made from it.
        image_list: the images.
        needs: as of a run.
        budgets: a yml for `--budgets`.
        command: runs `parity`.
        stages: of the bundle, that are compared, too.
    """

    name: str
    config: str
    weights: Path
    bundle: Path
    image_list: str
    needs: tuple[str, ...]
    budgets: str = ""
    command: str = "-m paddleseg_ext parity"
    stages: tuple[str, ...] = ("static",)


@dataclass
class Plan:
    """The runs of a chain.

    Attributes:
        model_name: of the txt.
        log_dir: the folder of the logs.
        runs: in their order.
        python: the interpreter, as the txt names it.
    """

    model_name: str
    log_dir: Path
    runs: list[ChainRun] = field(default_factory=list)
    python: str = "python"

    @classmethod
    def of(cls, params: Mapping[str, str], folder: str) -> "Plan":
        """Returns a plan without runs, for the model and interpreter of a section."""
        name = params["model_name"]
        return cls(name, OUTPUT_ROOT / name / folder, python=params["python"])

    def add(self, run: ChainRun) -> str:
        """Appends a run; returns its name."""
        self.runs.append(run)
        return run.name

    def words(self, line: str, *start: str, **flags: object) -> tuple[str, ...]:
        """Returns the words of a command: the line's as they are written, between two additions.

        Args:
            line: a command of the txt.
            start: starts the line's program; by default the interpreter. `paddleseg-ext` is a
                program of its own and takes none.
            flags: appended as `--name=value`; those without a value are left out.
        """
        written = txt.split_command(line)
        start = start or (self.python,)
        if written[:1] == [PROGRAM] and start[-1] == self.python:
            start = start[:-1]
        given = {name: str(value) for name, value in flags.items() if value is not None}
        added = [f"--{name}={value}" for name, value in given.items() if value not in txt.UNSET]
        return (*start, *written, *added)

    def judge(
        self,
        judged: Judgement,
        results: Mapping[str, Path] | None = None,
        save_dir: Path | None = None,
    ) -> "Plan":
        """Appends the run that compares folders of results, and shows the judge its faults.

        Args:
            results: name -> folder; by default every run that leaves predictions.
            save_dir: gets the verdict; by default the folder of the logs.
        """
        if results is None:
            results = {
                run.name.removeprefix("python_"): run.results
                for run in self.runs
                if run.results and not run.reason
            }
        save_dir = save_dir or self.log_dir
        words = self.words(
            judged.command, config=judged.config, model_path=judged.weights,
            bundle=judged.bundle, image_list=judged.image_list, save_dir=save_dir,
            budgets=judged.budgets,
        )  # fmt: skip
        words += ("--negative_controls", "--stages", *judged.stages)
        if results:
            words += ("--results", *(f"{name}={folder}" for name, folder in results.items()))
        verdict = save_dir / "results.json"
        self.add(ChainRun("parity", judged.name, words, needs=judged.needs, verdict=verdict))
        return self


def check_mode(mode: str, modes: tuple[str, ...]) -> None:
    """Checks that a mode is one of `modes`.

    Raises:
        UsageError: it is another chain's, or unknown (the nearest is named).
    """
    if mode in txt.MODES and mode not in modes:
        raise UsageError(f"mode '{mode}' is not run by this chain; it runs {', '.join(modes)}")
    if mode not in modes:
        raise UsageError(f"unknown mode '{mode}'{nearest_name(mode, modes)}")


def read_config(path: Path, kind: str, mode: str, modes: tuple[str, ...]) -> txt.Sections:
    """Returns the sections of a txt of a kind, for a mode of a chain.

    Raises:
        UsageError: the mode is not one of `modes`, or the file is wrong or of another kind.
    """
    check_mode(mode, modes)
    found, sections = txt.read_sections(path)
    if found != kind:
        raise UsageError(f"{path}: this chain reads '==={kind}===', the file is of '==={found}==='")
    return sections
