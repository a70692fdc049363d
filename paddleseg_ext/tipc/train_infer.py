"""TIPC's train-infer chain: a `train_infer_python.txt` -> the commands to run, in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.flags import TRUE_WORDS
from paddleseg_ext.common.machine import NO_GPU, gpu_build_version, has_gpu_build
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.runtime import RuntimeSpec, TensorRtOptions
from paddleseg_ext.tipc import txt
from paddleseg_ext.tipc.plan import OUTPUT_ROOT, ChainRun, Judgement, Plan, read_config

# Trainers with an export command of their own; the others share norm_export.
OWN_EXPORT = ("pact", "fpgm", "distill", "quant")
BEST_MODEL = "best_model"
# PaddleSlim's ways of training; its last release was made for Paddle 2.6.
NOT_OFFERED = {
    "pact": "PACT (training for INT8) is not offered: quantise the trained network with "
    "test_ptq_inference_python.sh",
    "fpgm": "FPGM (pruning of filters) is not offered: take a smaller network of the same family",
}


@dataclass(frozen=True)
class TrainingVariant:
    """One way of training: a combination of gpu_list, --precision and trainer.

    Attributes:
        params: the section that it comes from.
        folder: of the checkpoints, the bundle and the predictions; its name spells the variant as
            PaddleSeg does.
        trainer: `norm`, `amp` ...
        device: `cpu` or `gpu`.
        start: starts the script: the interpreter, or the launcher of several processes.
        precision: of `--precision`.
        reason: why it cannot run here; empty where it can.
    """

    params: Mapping[str, str]
    folder: Path
    trainer: str
    device: str
    start: tuple[str, ...]
    precision: str
    reason: str


@dataclass(frozen=True)
class _Checkpoint:
    """One checkpoint that is deployed.

    Attributes:
        folder: gets the bundle and the predictions; its name spells the training.
        weights: the `.pdparams`.
        export: the export command, without checkpoint and folder; null: the bundle exists.
        config: the yml.
        device: of its training and evaluation.
        training: makes it, if this chain does.
    """

    folder: Path
    weights: Path
    export: str
    config: str
    device: str
    training: ChainRun | None = None


def plan_train_infer(path: Path, mode: str) -> Plan:
    """Returns the commands of `test_train_inference_python.sh CFG MODE`, in order.

    Raises:
        UsageError: the file or the mode is wrong.
    """
    modes = (*txt.TRAIN_MODES, "whole_infer")
    sections = read_config(path, "train_params", mode, modes)
    plan = Plan.of(sections["train_params"], mode)
    if mode == "whole_infer":
        checkpoints = list(_ready_models(sections))
    else:
        checkpoints = list(_trained_models(plan, sections, mode))
    for checkpoint in checkpoints:
        if checkpoint.training:
            plan.add(checkpoint.training)
        _deploy(plan, sections, checkpoint, is_alone=len(checkpoints) == 1)
    return plan


def variants_of(train: Mapping[str, str]) -> Iterator[TrainingVariant]:
    """Yields gpu_list x --precision x trainer.

    Raises:
        UsageError: not one device for each of gpu_list, or a wrong one.
    """
    gpus, devices = txt.choices_of(train["gpu_list"]), txt.choices_of(train["--device"])
    if len(devices) != len(gpus):
        raise UsageError(
            f"--device:{train['--device']}: one device for each of gpu_list:{train['gpu_list']} "
            "is expected"
        )
    places = zip(gpus, devices, strict=True)
    for (gpu, device), precision, trainer in product(
        places, txt.choices_of(train["--precision"]), txt.choices_of(train["trainer"])
    ):
        hosts, _, cards = gpu.rpartition(";")
        name = f"{trainer}_gpus_{cards}_autocast_{precision}"
        if hosts:
            name += f"_nodes_{len(hosts.split(','))}"
        folder = OUTPUT_ROOT / train["model_name"] / name
        start = tuple(_launcher(train["python"], gpu, device, folder))
        kind = trainer.removesuffix("_train")
        reason = NOT_OFFERED.get(kind) or _why_not_trained(device, precision, hosts)
        yield TrainingVariant(train, folder, kind, device, start, precision, reason)


def training_words(
    plan: Plan, variant: TrainingVariant, mode: str, save_dir: Path, extra: str = ""
) -> tuple[str, ...]:
    """Returns the command that trains a variant in a mode.

    Args:
        extra: further flags of the script.

    Raises:
        UsageError: no command for the trainer or the mode.
    """
    params, key = variant.params, f"{variant.trainer}_train"
    script = txt.by_mode(_command(params, key, variant.trainer), mode, key)
    return plan.words(
        f"{script} {extra}", *variant.start, device=variant.device, precision=variant.precision,
        iters=txt.by_mode(params["--iters"], mode, "--iters"),
        batch_size=txt.by_mode(params["--batch_size"], mode, "--batch_size"),
        model_path=params["--model_path"], save_dir=save_dir,
    )  # fmt: skip


def _command(params: Mapping[str, str], key: str, trainer: str) -> str:
    command = params.get(key, txt.NULL)
    if command == txt.NULL:
        raise UsageError(f"trainer:{trainer}: a command '{key}' is expected")
    return command


def _trained_models(plan: Plan, sections: txt.Sections, mode: str) -> Iterator[_Checkpoint]:
    """Yields the checkpoints that the chain trains."""
    trained = set()
    for variant in variants_of(sections["train_params"]):
        trained.add(f"{variant.trainer}_train")
        if variant.trainer in NOT_OFFERED:
            words = training_words(plan, variant, mode, variant.folder)
            name = f"python_train_{variant.folder.name}"
            plan.add(ChainRun("train", name, words, variant.reason))
            continue
        key = f"{variant.trainer if variant.trainer in OWN_EXPORT else 'norm'}_export"
        export = _command(sections["export_params"], key, variant.trainer)
        words = training_words(plan, variant, mode, variant.folder)
        run = ChainRun("train", f"python_train_{variant.folder.name}", words, variant.reason)
        weights = variant.folder / variant.params["train_model_name"]
        config = txt.option_of(export, "--config")
        yield _Checkpoint(variant.folder, weights, export, config, variant.device, run)
    _add_not_offered(plan, sections, trained)


def _add_not_offered(plan: Plan, sections: txt.Sections, trained: set[str]) -> None:
    """Appends what no `trainer` names and is not offered, so that the log says of it."""
    lines = {**sections["train_params"], **sections["export_params"]}
    for key, value in lines.items():
        kind, _, step = key.partition("_")
        is_named = key in trained or (step == "export" and f"{kind}_train" in trained)
        if kind in NOT_OFFERED and value not in txt.UNSET and not is_named:
            words = plan.words(value)
            plan.add(ChainRun(step, f"python_{key}", words, NOT_OFFERED[kind]))


def _launcher(python: str, gpu: str, device: str, folder: Path) -> list[str]:
    """Returns the start of a training: `0` one process, `0,1` two, `HOST,HOST;0,1` two per host.

    On a CPU the numbers only count processes.
    """
    if device not in ("cpu", "gpu"):
        raise UsageError(f"--device: cpu or gpu is expected, got '{device}'")
    hosts, semicolon, cards = gpu.rpartition(";")
    if not semicolon and "," not in gpu:
        return [python] if device == "cpu" else ["env", f"CUDA_VISIBLE_DEVICES={gpu}", python]
    launch = [python, "-m", "paddle.distributed.launch", f"--log_dir={folder / 'launch'}"]
    launch += [f"--ips={hosts}"] if semicolon else []
    processes = len(cards.split(","))
    return [*launch, f"--gpus={cards}" if device == "gpu" else f"--nproc_per_node={processes}"]


def _why_not_trained(device: str, precision: str, hosts: str) -> str:
    if device == "gpu" and not has_gpu_build():
        return NO_GPU
    if device == "cpu" and precision not in (*txt.UNSET, "fp32"):
        return f"training in {precision} needs a GPU"
    if "," in hosts:
        return f"several machines: start this command on each of {hosts}, at the same time"
    return ""


def _ready_models(sections: txt.Sections) -> Iterator[_Checkpoint]:
    """Yields what `whole_infer` starts from: bundles as they are, or checkpoints to export."""
    infer = sections["infer_params"]
    models, exports = txt.choices_of(infer["infer_model"]), txt.choices_of(infer["infer_export"])
    if len(models) != len(exports):
        raise UsageError("infer_export: one command (or null) for each infer_model is expected")
    device = txt.choices_of(sections["train_params"]["--device"])[0]
    for model, export in zip(models, exports, strict=True):
        if model in txt.UNSET:
            raise UsageError("infer_model: a checkpoint, or the folder of a bundle, is expected")
        if export == txt.NULL:
            folder, weights = Path(model), checkpoint_of(Path(model))
            config = txt.option_of(sections["export_params"]["norm_export"], "--config")
        else:
            weights = Path(model)
            folder = weights.parent
            folder = folder.parent if folder.name == BEST_MODEL else folder
            config = txt.option_of(export, "--config")
        yield _Checkpoint(folder, weights, export, config, device)


def checkpoint_of(folder: Path) -> Path:
    """Returns the checkpoint that a bundle was made from: the reference of its verdict.

    Raises:
        UsageError: there is no bundle, it does not name its checkpoint, or that is gone.
    """
    manifest = read_bundle(folder).manifest
    path = manifest.checkpoint.get("path") if manifest else None
    if not path:
        raise UsageError(
            f"{folder}: the bundle does not name its checkpoint, which the verdict compares with; "
            "give infer_model: the checkpoint and infer_export: its export command"
        )
    return require_file(path, f"{folder}: the bundle's checkpoint")


def _deploy(plan: Plan, sections: txt.Sections, checkpoint: _Checkpoint, is_alone: bool) -> None:
    """Appends eval, export, the inference matrix and the verdict of one checkpoint.

    Every prediction goes into a folder below the checkpoint's, every log into the plan's; where
    there are several checkpoints, the logs have the checkpoint's name in front.
    """
    infer, folder, weights = sections["infer_params"], checkpoint.folder, checkpoint.weights
    prefix = "" if is_alone else f"{folder.name}_"
    needs: tuple[str, ...] = (checkpoint.training.name,) if checkpoint.training else ()
    results = {}
    evaluation = sections["eval_params"]["eval"]
    if evaluation != txt.NULL:
        results["eval"] = saved = folder / "python_eval_results"
        words = plan.words(evaluation, device=checkpoint.device, model_path=weights, save_dir=saved)
        plan.add(ChainRun("eval", f"python_eval_{folder.name}", words, "", saved, needs))
    if checkpoint.export != txt.NULL:
        words = plan.words(checkpoint.export, model_path=weights, save_dir=folder)
        needs += (plan.add(ChainRun("export", f"python_export_{folder.name}", words, needs=needs)),)
    bundle, images = folder / "deploy.yaml", infer["--image_path"]
    for spelled, settings, runtime in _matrix(infer):
        reason = _why_not_inferred(runtime)
        name = f"python_{prefix}{spelled}"
        settings |= {"config": bundle, "image_path": images}
        if runtime.tensorrt and runtime.precision == "int8":
            # TensorRT measures in a first run what it needs for INT8, and writes it at its end.
            first = f"{name}_calibration"
            words = plan.words(infer["inference"], **settings, save_dir=plan.log_dir / first)
            plan.add(ChainRun("infer", first, words, reason, needs=needs))
        saved = folder / f"python_{spelled}_results"
        words = plan.words(infer["inference"], **settings, save_dir=saved)
        batch = txt.count_of(str(settings["batch_size"]))
        plan.add(ChainRun("infer", name, words, reason, saved, needs, runtime, batch))
        if not reason:
            results[spelled] = saved
    judged = Judgement(
        f"python_parity_{folder.name}", checkpoint.config, weights, bundle, images, needs
    )
    plan.judge(judged, results, plan.log_dir / prefix.rstrip("_"))


def _matrix(infer: Mapping[str, str]) -> Iterator[tuple[str, dict[str, object], RuntimeSpec]]:
    """Device x oneDNN or TensorRT x threads x precision x batch size.

    Yields:
        PaddleSeg's spelling of the run, its flags, and the runtime that they ask for.
    """
    for device in txt.choices_of(infer["--device"]):
        if device not in ("cpu", "gpu"):
            raise UsageError(f"--device: cpu or gpu is expected, got '{device}'")
        on_cpu = device == "cpu"
        switch = "enable_mkldnn" if on_cpu else "use_trt"
        for choice, threads, precision, batch in product(
            txt.choices_of(infer[f"--{switch}"]),
            txt.choices_of(infer["--cpu_threads"]) if on_cpu else [txt.NULL],
            txt.choices_of(infer["--precision"]),
            txt.choices_of(infer["--batch_size"]),
        ):
            setting = f"usemkldnn_{choice}_threads_{threads}" if on_cpu else f"usetrt_{choice}"
            spelled = f"infer_{device}_{setting}_precision_{precision}_batchsize_{batch}"
            settings: dict[str, object] = {
                "device": device, switch: choice, "cpu_threads": threads, "precision": precision,
                "batch_size": batch, "benchmark": infer["--benchmark"],
                "model_name": infer.get("--model_name"),
            }  # fmt: skip
            is_on = choice.lower() in TRUE_WORDS
            engine = "paddle_onednn" if on_cpu and is_on else "paddle"
            tensorrt = TensorRtOptions() if is_on and not on_cpu else None
            count = txt.count_of(threads)
            runtime = RuntimeSpec(engine, precision, device, threads=count, tensorrt=tensorrt)
            yield spelled, settings, runtime


def _why_not_inferred(runtime: RuntimeSpec) -> str:
    """Returns why a combination of the matrix cannot run here; empty where it can."""
    precision = runtime.precision
    if runtime.device == "cpu" and precision == "bf16":
        needs_onednn = runtime.engine != "paddle_onednn"
        return "bf16 on a CPU needs --enable_mkldnn:True" if needs_onednn else runtime.why_no_bf16()
    if runtime.device == "cpu":
        return f"{precision} needs a GPU" if precision != "fp32" else ""
    if not has_gpu_build():
        return NO_GPU
    if precision == "int8" and not (runtime.tensorrt and gpu_build_version().startswith("2.")):
        return "int8 on a GPU needs TensorRT and Paddle 2.6"
    return ""
