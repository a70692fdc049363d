"""TIPC's train-infer chain: a `train_infer_python.txt` -> the commands to run, in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.machine import NO_GPU, gpu_build_version, has_gpu_build
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.tipc.format import (
    NULL,
    TRAIN_MODES,
    Sections,
    by_mode,
    choices_of,
    flag,
    option_of,
    split_command,
)
from paddleseg_ext.tipc.plan import (
    OUTPUT_ROOT,
    Asked,
    Comparison,
    Plan,
    Run,
    check_mode,
    read_config,
)

# Trainers with an export command of their own; the others share norm_export.
OWN_EXPORT = ("pact", "fpgm", "distill", "quant")


@dataclass(frozen=True)
class Variant:
    """One way of training: a combination of gpu_list, --precision and trainer.

    Attributes:
        name: spells it, as PaddleSeg does.
        folder: gets the checkpoints, and later the bundle and the predictions.
        trainer: `norm`, `amp` ...
        device: `cpu` or `gpu`.
        start: what starts the script: the interpreter, or the launcher of several processes.
        precision: of `--precision`.
        reason: why it cannot run here; empty where it can.
    """

    name: str
    folder: Path
    trainer: str
    device: str
    start: tuple[str, ...]
    precision: str
    reason: str


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
        needs: the training that makes it, if this chain does.
    """

    name: str
    folder: Path
    weights: Path
    export: str
    config: str
    device: str
    needs: tuple[str, ...] = ()


def plan_train_infer(path: Path, mode: str) -> Plan:
    """The commands of `test_train_inference_python.sh CFG MODE`, in order.

    Raises:
        UsageError: the file or the mode is wrong.
    """
    check_mode(mode, (*TRAIN_MODES, "whole_infer"))
    sections = read_config(path, "train_params")
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


def variants_of(train: Mapping[str, str]) -> Iterator[Variant]:
    """gpu_list x --precision x trainer.

    Raises:
        UsageError: not one device for each of gpu_list, or a wrong one.
    """
    gpus, devices = choices_of(train["gpu_list"]), choices_of(train["--device"])
    if len(devices) != len(gpus):
        raise UsageError(
            f"--device:{train['--device']}: one device for each of gpu_list:{train['gpu_list']} "
            "is expected"
        )
    places = zip(gpus, devices, strict=True)
    for (gpu, device), precision, trainer in product(
        places, choices_of(train["--precision"]), choices_of(train["trainer"])
    ):
        kind = trainer.removesuffix("_train")
        name = f"{trainer}_gpus_{gpu}_autocast_{precision}"
        folder = OUTPUT_ROOT / train["model_name"] / name
        start = tuple(_launcher(train["python"], gpu, device, folder))
        reason = _why_not_trained(device, precision)
        yield Variant(name, folder, kind, device, start, precision, reason)


def training_command(
    train: Mapping[str, str], variant: Variant, mode: str, save_dir: Path, extra: str = ""
) -> tuple[str, ...]:
    """The command that trains a variant in a mode.

    Args:
        extra: further flags of the script.

    Raises:
        UsageError: no command for the trainer or the mode.
    """
    key = f"{variant.trainer}_train"
    script = train.get(key, NULL)
    if script == NULL:
        raise UsageError(f"trainer:{variant.trainer}: a command '{key}' is expected")
    return (
        *variant.start,
        *split_command(by_mode(script, mode, key)),
        *split_command(extra),
        *flag("--device", variant.device),
        *flag("--precision", variant.precision),
        *flag("--iters", by_mode(train["--iters"], mode, "--iters")),
        *flag("--batch_size", by_mode(train["--batch_size"], mode, "--batch_size")),
        *flag("--model_path", train["--model_path"]),
        *flag("--save_dir", str(save_dir)),
    )


def _trainings(sections: Sections, mode: str) -> Iterator[tuple[_Checkpoint, Run]]:
    train, exports = sections["train_params"], sections["export_params"]
    for variant in variants_of(train):
        key = f"{variant.trainer if variant.trainer in OWN_EXPORT else 'norm'}_export"
        export = exports.get(key, NULL)
        if export == NULL:
            raise UsageError(f"trainer:{variant.trainer}: a command '{key}' is expected")
        command = training_command(train, variant, mode, variant.folder)
        weights = variant.folder / train["train_model_name"]
        config = option_of(export, "--config")
        run = Run("train", f"python_train_{variant.name}", command, variant.reason)
        yield (
            _Checkpoint(
                *(variant.name, variant.folder, weights, export, config, variant.device),
                needs=(run.name,),
            ),
            run,
        )


def _launcher(python: str, gpu: str, device: str, folder: Path) -> list[str]:
    """What starts a training: `0` one process, `0,1` two, `HOST,HOST;0,1` two on each host.

    On a CPU the numbers only count processes.
    """
    if device not in ("cpu", "gpu"):
        raise UsageError(f"--device: cpu or gpu is expected, got '{device}'")
    hosts, semicolon, cards = gpu.rpartition(";")
    if not semicolon and "," not in gpu:
        return [python] if device == "cpu" else ["env", f"CUDA_VISIBLE_DEVICES={gpu}", python]
    launch = [python, "-m", "paddle.distributed.launch", f"--log_dir={folder / 'launch'}"]
    launch += [f"--ips={hosts}"] if semicolon else []
    processes = len(choices_of(cards.replace(",", "|")))
    return [*launch, f"--gpus={cards}" if device == "gpu" else f"--nproc_per_node={processes}"]


def _why_not_trained(device: str, precision: str) -> str:
    if device == "gpu" and not has_gpu_build():
        return NO_GPU
    if device == "cpu" and precision not in (NULL, "", "fp32"):
        return f"training in {precision} needs a GPU"
    return ""


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
            folder, weights = Path(model), checkpoint_of(Path(model))
            config = option_of(sections["export_params"]["norm_export"], "--config")
        else:
            weights = Path(model)
            # best_model/model.pdparams stands in the training's folder.
            folder = weights.parent
            folder = folder.parent if folder.name == "best_model" else folder
            config = option_of(export, "--config")
        yield _Checkpoint(folder.name, folder, weights, export, config, device)


def checkpoint_of(folder: Path) -> Path:
    """The checkpoint that a bundle was made from: what the bundle is compared with.

    Raises:
        UsageError: no bundle there, it does not name its checkpoint, or that is gone.
    """
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
    bundle, needs = checkpoint.folder / "deploy.yaml", checkpoint.needs
    weights = f"--model_path={checkpoint.weights}"
    runs, results = [], []
    evaluation = sections["eval_params"]["eval"]
    if evaluation != NULL:
        folder = checkpoint.folder / "python_eval_results"
        device = flag("--device", checkpoint.device)
        command = [python, *split_command(evaluation), *device, weights, f"--save_dir={folder}"]
        results.append(f"eval={folder}")
        name = f"python_eval_{checkpoint.name}"
        runs.append(Run("eval", name, tuple(command), results=folder, needs=needs))
    if checkpoint.export != NULL:
        name = f"python_export_{checkpoint.name}"
        command = [python, *split_command(checkpoint.export), weights]
        command += [f"--save_dir={checkpoint.folder}"]
        runs.append(Run("export", name, tuple(command), needs=needs))
        needs = (*needs, name)
    for spelled, settings, reason, asked in _matrix(infer):
        folder = checkpoint.folder / f"python_{spelled}_results"
        if asked.use_trt and asked.precision == "int8":
            # TensorRT measures in a first run what it needs for INT8, and writes it at its end.
            command = [python, *split_command(infer["inference"]), *settings]
            first = f"python_{prefix}{spelled}_calibration"
            files = (f"--config={bundle}", f"--image_path={infer['--image_path']}")
            where = f"--save_dir={log_dir / first}"
            runs.append(Run("infer", first, (*command, *files, where), reason, None, needs))
        command = [python, *split_command(infer["inference"]), *settings]
        command += [f"--config={bundle}", f"--image_path={infer['--image_path']}"]
        command += [f"--save_dir={folder}"]
        runs.append(
            Run("infer", f"python_{prefix}{spelled}", tuple(command), reason, folder, needs, asked)
        )
        if not reason:
            results.append(f"{spelled}={folder}")
    judged = Comparison(
        python, checkpoint.config, checkpoint.weights, bundle, infer["--image_path"]
    )
    save_dir, name = log_dir / prefix.rstrip("_"), f"python_parity_{checkpoint.name}"
    runs.append(judged.run(name, save_dir, results, needs))
    return runs


def _matrix(infer: Mapping[str, str]) -> Iterator[tuple[str, list[str], str, Asked]]:
    """Device x oneDNN or TensorRT x threads x precision x batch size.

    Yields:
        How PaddleSeg spells the run, its flags, why it cannot run here (empty if it can), and
        what is asked for by them.
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
            asked = Asked(
                "paddle_onednn" if on_cpu and choice == "True" else "paddle",
                precision,
                int(threads) if threads != NULL else None,
                device,
                not on_cpu and choice == "True",
                int(batch) if batch != NULL else None,
            )
            yield spelled, settings, _why_not_inferred(asked), asked


def _why_not_inferred(asked: Asked) -> str:
    """Why a combination of the matrix cannot run here; empty where it can."""
    if asked.device == "cpu":
        return f"{asked.precision} needs a GPU" if asked.precision != "fp32" else ""
    if not has_gpu_build():
        return NO_GPU
    if asked.precision == "int8" and not (asked.use_trt and gpu_build_version().startswith("2.")):
        return "int8 on a GPU needs TensorRT and Paddle 2.6"
    return ""
