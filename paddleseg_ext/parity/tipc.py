"""A TIPC `train_infer_python.txt` -> a checked list of the commands to run.

The file is PaddleSeg's: sections under `===name===` headers, `key:value` lines, `a|b` for
alternatives, `mode=value|mode=value` for what depends on the mode, `null` for a flag that is left
out. PaddleSeg addresses it by line number; here it is read by key, so a blank line shifts nothing,
and a value may hold `:`. What is not understood is an error before anything runs.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.machine import has_gpu_build
from paddleseg_ext.inference.bundle import read_bundle

MODES = (
    "lite_train_lite_infer",
    "lite_train_whole_infer",
    "whole_train_whole_infer",
    "whole_infer",
)
# Modes of the format that other chains run.
OTHER_MODES = ("klquant_whole_infer", "benchmark_train")

OUTPUT_ROOT = Path("test_tipc/output")
NULL = "null"
_HEADER = re.compile(r"^=+\s*(\w+)\s*=+$")

# Every key a section may hold; each must be there except the ones in OPTIONAL_KEYS.
SECTION_KEYS = {
    "train_params": (
        "model_name", "python", "gpu_list", "--device", "--precision", "--iters", "--save_dir",
        "--batch_size", "--model_path", "train_model_name", "train_infer_img_dir", NULL, "trainer",
        "norm_train", "pact_train", "fpgm_train", "distill_train",
    ),
    "eval_params": ("eval", NULL),
    "export_params": (
        "--save_dir", "--model_path", "norm_export", "quant_export", "fpgm_export",
        "distill_export", "export1", "export2",
    ),
    "infer_params": (
        "infer_model", "infer_export", "infer_quant", "inference", "--device", "--enable_mkldnn",
        "--cpu_threads", "--batch_size", "--use_trt", "--precision", "--config", "--image_path",
        "--save_log_path", "--benchmark", "--save_dir", "--model_name",
    ),
}  # fmt: skip
OPTIONAL_KEYS = {
    NULL, "train_infer_img_dir", "pact_train", "fpgm_train", "distill_train", "quant_export",
    "fpgm_export", "distill_export", "export1", "export2", "--save_log_path", "--model_name",
}  # fmt: skip
# Tails that other chains read; they are checked there.
TAIL_SECTIONS = (
    "train_benchmark_params",
    "infer_benchmark_params",
    "to_static_train_benchmark_params",
)

Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Run:
    """One command of a chain.

    Attributes:
        kind: train, eval, export, infer, parity, or skip (asked for, but cannot run here).
        name: spells the run; its log is `<name>.log`.
        command: program and arguments; for skip, what would have run.
        reason: why it is skipped.
        results: the folder that its predictions and counts go to, if it has one of its own.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    reason: str = ""
    results: Path | None = None

    @property
    def shown_command(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class Plan:
    """What a chain runs, in order, and the folder of the mode, where its logs go."""

    model_name: str
    log_dir: Path
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class _Checkpoint:
    """One checkpoint of a chain, trained by it or given.

    Attributes:
        name: spells the training; also the folder that gets the bundle and the predictions.
        folder: that folder.
        weights: the `.pdparams`.
        export: the export command, without checkpoint and folder; null: the bundle is there.
        config: the yml.
        device: where it was trained and is evaluated.
    """

    name: str
    folder: Path
    weights: Path
    export: str
    config: str
    device: str


def read_sections(path: Path) -> Sections:
    """Parse and check a `train_infer_python.txt`.

    Raises:
        UsageError: naming file and line: a line without `:`, an unknown section or key (the
            nearest is named), a key that stands twice, or a missing section or key.
    """
    require_file(path, "TIPC config")
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line, where = text.strip(), f"{path}, line {number}"
        if not line or set(line) == {"#"}:
            continue
        if header := _HEADER.match(line):
            current = _open_section(sections, header.group(1), where)
        elif current is None:
            raise UsageError(f"{where}: '===train_params===' is expected first, got '{line}'")
        else:
            name = next(reversed(sections))
            _read_line(current, name, line, where)
    for name, keys in SECTION_KEYS.items():
        if name not in sections:
            raise UsageError(f"{path}: the section '==={name}===' is missing")
        missing = [key for key in keys if key not in sections[name] and key not in OPTIONAL_KEYS]
        if missing:
            raise UsageError(f"{path}: '{missing[0]}' is missing in '==={name}==='")
    return sections


def _open_section(sections: dict[str, dict[str, str]], name: str, where: str) -> dict[str, str]:
    known = (*SECTION_KEYS, *TAIL_SECTIONS)
    if name not in known:
        raise UsageError(f"{where}: unknown section '{name}'{nearest_name(name, known)}")
    if name in sections:
        raise UsageError(f"{where}: the section '{name}' stands twice")
    sections[name] = {}
    return sections[name]


def _read_line(section: dict[str, str], name: str, line: str, where: str) -> None:
    key, separator, value = line.partition(":")
    key, value = key.strip(), value.strip()
    if not separator:
        raise UsageError(f"{where}: 'key:value' is expected, got '{line}'")
    if name not in SECTION_KEYS:
        section[key] = value
        return
    if key not in SECTION_KEYS[name]:
        hint = nearest_name(key, SECTION_KEYS[name])
        raise UsageError(f"{where}: unknown key '{key}' in '==={name}==='{hint}")
    if key == NULL:
        if value not in (NULL, ""):
            raise UsageError(f"{where}: 'null:{value}' does nothing; give the key a name")
        return
    if key in section:
        raise UsageError(f"{where}: '{key}' stands twice in '==={name}==='")
    section[key] = value


def check_mode(mode: str) -> str:
    """`mode`, if this chain runs it.

    Raises:
        UsageError: it is another chain's, or unknown (the nearest is named).
    """
    if mode in OTHER_MODES:
        raise UsageError(f"mode '{mode}' is not run by this chain; it runs {', '.join(MODES)}")
    if mode not in MODES:
        raise UsageError(f"unknown mode '{mode}'{nearest_name(mode, MODES)}")
    return mode


def by_mode(value: str, mode: str, key: str) -> str:
    """The part of `mode=value|mode=value` for a mode; a plain value is for every mode.

    Raises:
        UsageError: an unknown mode is named, or this one is not. (Dropping the flag in silence
            would train as long as the yml says.)
    """
    if "=" not in value:
        return value
    choices = {}
    for part in value.split("|"):
        name, separator, choice = part.partition("=")
        if not separator or name.strip() not in (*MODES, *OTHER_MODES):
            raise UsageError(f"{key}: 'mode=value|...' is expected, got '{part}'")
        choices[name.strip()] = choice.strip()
    if mode not in choices:
        raise UsageError(f"{key}: no value for mode '{mode}', only for {', '.join(choices)}")
    return choices[mode]


def choices_of(value: str) -> list[str]:
    """`a|b` as a list."""
    return [part.strip() for part in value.split("|")]


def flag(key: str, value: str) -> list[str]:
    """`--key=value` as one argument, or nothing where the value is `null` or empty."""
    return [] if value in (NULL, "") else [f"{key}={value}"]


def option_of(command: str, name: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE` in a command line.

    Raises:
        UsageError: it is not there.
    """
    words = shlex.split(command)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name and following:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    raise UsageError(f"'{command}': {name} is expected in it")


def make_plan(path: Path, mode: str) -> Plan:
    """The commands of `test_train_inference_python.sh CFG MODE`, in order.

    Raises:
        UsageError: the file or the mode is wrong.
    """
    check_mode(mode)
    sections = read_sections(path)
    model_name = sections["train_params"]["model_name"]
    log_dir = OUTPUT_ROOT / model_name / mode
    starts: list[tuple[_Checkpoint, list[Run]]]
    if mode == "whole_infer":
        starts = [(checkpoint, []) for checkpoint in _ready_models(sections)]
    else:
        starts = [(checkpoint, [run]) for checkpoint, run in _trainings(sections, mode)]
    runs: list[Run] = []
    for checkpoint, training in starts:
        prefix = f"{checkpoint.name}_" if len(starts) > 1 else ""
        runs += training
        runs += _deployment(sections, checkpoint, log_dir, prefix)
    return Plan(model_name, log_dir, tuple(runs))


def _trainings(sections: Sections, mode: str) -> Iterator[tuple[_Checkpoint, Run]]:
    """One training for each of gpu_list x precision x trainer."""
    train, exports = sections["train_params"], sections["export_params"]
    gpus, devices = choices_of(train["gpu_list"]), choices_of(train["--device"])
    if len(devices) != len(gpus):
        raise UsageError(
            f"--device:{train['--device']}: one device for each of gpu_list:{train['gpu_list']} "
            "is expected"
        )
    variants = product(
        zip(gpus, devices, strict=True),
        choices_of(train["--precision"]),
        choices_of(train["trainer"]),
    )
    for (gpu, device), precision, trainer in variants:
        kind = trainer.removesuffix("_train")
        script = train.get(f"{kind}_train", NULL)
        export = exports.get(f"{kind}_export", NULL)
        if NULL in (script, export):
            raise UsageError(
                f"trainer:{trainer}: commands '{kind}_train' and '{kind}_export' are expected"
            )
        name = f"{trainer}_gpus_{gpu}_autocast_{precision}"
        folder = OUTPUT_ROOT / train["model_name"] / name
        command = [
            *_launcher(train["python"], gpu, device),
            *shlex.split(script),
            *flag("--device", device),
            *flag("--precision", precision),
            *flag("--iters", by_mode(train["--iters"], mode, "--iters")),
            *flag("--batch_size", by_mode(train["--batch_size"], mode, "--batch_size")),
            *flag("--model_path", train["--model_path"]),
            *flag("--save_dir", str(folder)),
        ]
        weights = folder / train["train_model_name"]
        config = option_of(export, "--config")
        checkpoint = _Checkpoint(name, folder, weights, export, config, device)
        yield checkpoint, Run("train", f"python_train_{name}", tuple(command))


def _launcher(python: str, gpu: str, device: str) -> list[str]:
    """What starts a training on the graphics cards that gpu_list names, or on the CPU."""
    if device != "gpu":
        if "," in gpu:
            raise UsageError(f"gpu_list:{gpu}: several processes need --device gpu, got '{device}'")
        return [python]
    if "," in gpu:
        return [python, "-m", "paddle.distributed.launch", f"--gpus={gpu}"]
    return ["env", f"CUDA_VISIBLE_DEVICES={gpu}", python]


def _ready_models(sections: Sections) -> Iterator[_Checkpoint]:
    """What `whole_infer` starts from: bundles as they are, or checkpoints to export."""
    infer = sections["infer_params"]
    models, exports = choices_of(infer["infer_model"]), choices_of(infer["infer_export"])
    if len(models) != len(exports):
        raise UsageError("infer_export: one command (or null) for each infer_model is expected")
    device = choices_of(sections["train_params"]["--device"])[0]
    for model, export in zip(models, exports, strict=True):
        if model in (NULL, ""):
            raise UsageError("infer_model: a checkpoint, or the folder of a bundle, is expected")
        if export == NULL:
            folder, weights = Path(model), _checkpoint_of(Path(model))
            config = option_of(sections["export_params"]["norm_export"], "--config")
        else:
            weights = Path(model)
            # best_model/model.pdparams stands in the training's folder.
            folder = weights.parent
            folder = folder.parent if folder.name == "best_model" else folder
            config = option_of(export, "--config")
        yield _Checkpoint(folder.name, folder, weights, export, config, device)


def _checkpoint_of(folder: Path) -> Path:
    """The checkpoint that a bundle was made from: what the bundle is compared with."""
    manifest = read_bundle(folder).manifest
    path = manifest.checkpoint.get("path") if manifest else None
    if not path:
        raise UsageError(
            f"{folder}: the bundle does not name its checkpoint, which the verdict compares with; "
            "give infer_model: the checkpoint and infer_export: its export command"
        )
    return require_file(path, f"{folder}: the bundle's checkpoint")


def _deployment(
    sections: Sections, checkpoint: _Checkpoint, log_dir: Path, prefix: str
) -> list[Run]:
    """Eval, export, the inference matrix and the verdict, for one checkpoint.

    Every prediction goes into a folder below the checkpoint's, every log into `log_dir`; `prefix`
    keeps the logs of several checkpoints apart.
    """
    python, infer = sections["train_params"]["python"], sections["infer_params"]
    bundle = checkpoint.folder / "deploy.yaml"
    weights = f"--model_path={checkpoint.weights}"
    runs, results = [], []
    evaluation = sections["eval_params"]["eval"]
    if evaluation != NULL:
        folder = checkpoint.folder / "python_eval_results"
        command = [python, *shlex.split(evaluation), *flag("--device", checkpoint.device), weights]
        command += [f"--save_dir={folder}"]
        results.append(f"eval={folder}")
        runs.append(Run("eval", f"python_eval_{checkpoint.name}", tuple(command), results=folder))
    if checkpoint.export != NULL:
        command = [python, *shlex.split(checkpoint.export), weights]
        command += [f"--save_dir={checkpoint.folder}"]
        runs.append(Run("export", f"python_export_{checkpoint.name}", tuple(command)))
    for spelled, settings, reason in _matrix(infer):
        folder = checkpoint.folder / f"python_{spelled}_results"
        command = [python, *shlex.split(infer["inference"]), *settings]
        command += [f"--config={bundle}", f"--image_path={infer['--image_path']}"]
        command += [f"--save_dir={folder}"]
        kind = "skip" if reason else "infer"
        runs.append(Run(kind, f"python_{prefix}{spelled}", tuple(command), reason, folder))
        if not reason:
            results.append(f"{spelled}={folder}")
    command = [python, "-m", "paddleseg_ext", "parity"]
    command += [f"--config={checkpoint.config}", weights]
    command += [f"--bundle={bundle}", f"--image_list={infer['--image_path']}"]
    command += [f"--save_dir={log_dir / prefix.rstrip('_')}"]
    command += ["--negative_controls", "--stages", "static", "--results", *results]
    runs.append(Run("parity", f"python_parity_{checkpoint.name}", tuple(command)))
    return runs


def _matrix(infer: Mapping[str, str]) -> Iterator[tuple[str, list[str], str]]:
    """Device x oneDNN or TensorRT x threads x precision x batch size.

    Yields:
        How PaddleSeg spells the run, its flags, and why it cannot run here (empty if it can).
    """
    for device in choices_of(infer["--device"]):
        if device not in ("cpu", "gpu"):
            raise UsageError(f"--device: cpu or gpu is expected, got '{device}'")
        on_cpu = device == "cpu"
        switch = "--enable_mkldnn" if on_cpu else "--use_trt"
        for choice, threads, precision, batch in product(
            choices_of(infer[switch]),
            choices_of(infer["--cpu_threads"]) if on_cpu else [NULL],
            choices_of(infer["--precision"]),
            choices_of(infer["--batch_size"]),
        ):
            setting = f"usemkldnn_{choice}_threads_{threads}" if on_cpu else f"usetrt_{choice}"
            spelled = f"infer_{device}_{setting}_precision_{precision}_batchsize_{batch}"
            settings = [
                f"--device={device}",
                f"{switch}={choice}",
                *flag("--cpu_threads", threads),
                *flag("--precision", precision),
                *flag("--batch_size", batch),
                *flag("--benchmark", infer["--benchmark"]),
                *flag("--model_name", infer.get("--model_name", NULL)),
            ]
            yield spelled, settings, _why_not(device, precision)


def _why_not(device: str, precision: str) -> str:
    """Why a combination of the matrix cannot run here; empty where it can."""
    if device == "gpu" and not has_gpu_build():
        return "the installed PaddlePaddle is the CPU build"
    if device == "cpu" and precision != "fp32":
        return f"{precision} needs a GPU"
    return ""
