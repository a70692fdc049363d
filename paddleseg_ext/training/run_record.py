"""The record of how a run was made: `run.json` in its folder, and `config.yml`, which repeats it.

Every start of a run is recorded: the first, and one for each resume.
"""

import hashlib
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

import paddleseg_ext
from paddleseg_ext.common import machine
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, sha256_of, write_json, write_text
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.digest import digest_of
from paddleseg_ext.inference.environment import package_versions
from paddleseg_ext.models.starting_weights import files_to_start_from
from paddleseg_ext.training.distillation import teacher_files
from paddleseg_ext.training.run_folder import CONFIG, RECORD, leaves_of

MOST_CLASSES = 1 << 16
_MISSING = "not there"


@dataclass(frozen=True)
class Start:
    """One start of a run.

    Attributes:
        command: the process's command line, quoted for a shell.
        directory: the working directory, which relative paths belong to.
        time: UTC, ISO 8601.
        iteration: that the run continues from; 0 for a new one.
        config: the resolved configuration.
        options: of `TrainOptions`; paths as text.
        num_classes: of the labels.
        versions: of this package, its source code (sha256), Python and the packages that train.
        machine: processor, system, device, threads per process, number of processes.
        data: section of the yml -> `samples`, their number, and `sha256`.
        weights: file that the run started from or learns from -> sha256.
    """

    command: str
    directory: str
    time: str
    iteration: int
    config: dict[str, Any]
    options: dict[str, Any]
    num_classes: int = option(MISSING, "", at_least=1, below=MOST_CLASSES)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `ValueError` for options that no run has."""
        if not isinstance(self.options.get("seed", 0), int):
            raise ValueError(f"'options.seed' must be a whole number, got {self.seed!r}")
        if not isinstance(self.options.get("finetune"), str | None):
            raise ValueError("'options.finetune' must be a path")

    @property
    def seed(self) -> int:
        """The seed of weights, order and augmentation."""
        return self.options.get("seed", 0)

    def differences(self, other: "Start") -> list[str]:
        """Lines such as `versions.numpy was 1.26.4, is 2.4.6`, of all that can change a result."""
        names = ("config", "versions", "machine", "data", "weights")
        old, new = (leaves_of({name: getattr(s, name) for name in names}) for s in (self, other))
        return [
            f"{key} was {old.get(key, _MISSING)}, is {new.get(key, _MISSING)}"
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key)
        ]


def describe_start(
    config: Config, options: Any, data: Mapping[str, Any], **of_machine: Any
) -> Start:
    """The record of this process, with every image and label hashed.

    Args:
        config: of the training.
        options: a `TrainOptions`.
        data: data sets by section.
        **of_machine: device, threads, processes.
    """
    return Start(
        command=shlex.join(sys.orig_argv),
        directory=str(Path.cwd()),
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        iteration=0,
        config=config.raw,
        options={k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
        num_classes=next(iter(data.values())).num_classes,
        versions=versions_here(),
        machine=machine_here() | of_machine,
        data={name: describe_data(dataset, name) for name, dataset in data.items()},
        weights=weights_here(config, options.finetune),
    )


def versions_here() -> dict[str, str]:
    """Versions of this process, and the sha256 of this package's source code."""
    return package_versions() | {"paddleseg_ext source": _source_sha256()}


def machine_here() -> dict[str, Any]:
    """Processor and system of this machine."""
    system = f"{platform.system()} {platform.machine()}"
    return {"processor": machine.cpu_name(), "system": system}


def describe_data(dataset: Any, name: str) -> dict[str, Any]:
    """Number and sha256 of a data set's samples; `name` is its section."""
    return {"samples": len(dataset.samples), "sha256": digest_of(dataset, name)}


def data_here(config: Config, section: str) -> dict[str, Any]:
    """The same for a section of a yml; the reason where the data set cannot be read here."""
    try:
        return describe_data(build_dataset(config, section), section)
    except (UsageError, OSError) as error:
        return {"samples": f"{_MISSING}: {str(error).splitlines()[0]}"}


def weights_here(config: Config, finetune: str | None) -> dict[str, str]:
    """File that a new run starts from or learns from -> its sha256."""
    starts = [finetune] if finetune else files_to_start_from(config).values()
    files = [*starts, *teacher_files(config)]
    return {str(f): sha256_of(f) if Path(f).is_file() else _MISSING for f in files}


def add_start(save_dir: Path, start: Start, iteration: int) -> None:
    """Write a start into the record of a run's folder, and its configuration as a yml.

    Args:
        save_dir: the run's folder.
        start: of this process.
        iteration: that it continues from.
    """
    path = save_dir / RECORD
    earlier = [asdict(s) for s in read_record(save_dir)] if path.exists() else []
    write_json(path, {"starts": [*earlier, asdict(replace(start, iteration=iteration))]})
    text = yaml.safe_dump(start.config, sort_keys=False, default_flow_style=None, width=100)
    write_text(
        save_dir / CONFIG, f"# The configuration of this run, with all flags applied.\n{text}"
    )


def read_record(save_dir: str | Path) -> list[Start]:
    """The starts of a run, at least one.

    Raises:
        UsageError: the folder has no record, or a damaged one.
    """
    path = require_file(Path(save_dir) / RECORD, "record of a run")
    try:
        starts = [from_section(Start, each, "starts") for each in read_json(path)["starts"]]
    except (ValueError, LookupError, TypeError, UsageError) as error:
        raise UsageError(f"{path}: a run.json of train is expected ({error})") from None
    if not starts:
        raise UsageError(f"{path}: it records no start")
    return starts


def _source_sha256() -> str:
    """The sha256 of the package's source files, which a version number does not tell apart."""
    root = Path(paddleseg_ext.__file__).parent
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        whole.update(f"{path.relative_to(root).as_posix()}\0{sha256_of(path)}\n".encode())
    return whole.hexdigest()
