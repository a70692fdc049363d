"""TIPC's other chains: ONNX, INT8, serving, training in static graph, training speed.

The first three start from what the train-infer chain left; the last two train on their own.
"""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.tipc.format import (
    NULL,
    Sections,
    choices_of,
    flag,
    kind_of,
    option_of,
    read_lines,
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
from paddleseg_ext.tipc.train_infer import (
    checkpoint_of,
    plan_train_infer,
    training_command,
    variants_of,
)

TRAIN_SCRIPT = "test_train_inference_python.sh"
# Backends that are packages of their own.
PACKAGES = ("onnxruntime", "openvino")
_PARAMS = re.compile(r"(dynamic|dynamicTostatic)_bs([1-9]\d*)_(\w+?)_(\w+?)_(N1C[1-9]\d*)")


def why_no_backend(name: str) -> str:
    """Why a backend cannot run here; empty where it can."""
    if name in PACKAGES and importlib.util.find_spec(name) is None:
        return f"{name} is not installed: {how_to_install(name)}"
    return ""


def plan_paddle2onnx(path: Path, mode: str) -> Plan:
    """`test_paddle2onnx.sh`: bundle with ONNX graph, run by each backend, verdict.

    Raises:
        UsageError: the file or the mode is wrong, or the checkpoint is not there.
    """
    check_mode(mode, ("whole_infer",))
    params = read_config(path, "paddle2onnx_params")["paddle2onnx_params"]
    model_name, python = params["model_name"], params["python"]
    weights = _made_by(TRAIN_SCRIPT, Path(params["--model_path"]))
    folder = Path(params["--save_dir"])
    export = Run(
        "export",
        "python_paddle2onnx",
        (
            *(python, *split_command(params["2onnx"]), f"--config={params['--config']}"),
            *(f"--model_path={weights}", f"--save_dir={folder}"),
        ),
        why_no_backend("onnxruntime"),  # the conversion is checked in it on the spot
    )
    runs = [export, *_backend_runs(python, params, folder, (export.name,))]
    judged = Comparison(
        python, params["--config"], weights, folder / "deploy.yaml", params["--image_path"]
    )
    log_dir = OUTPUT_ROOT / model_name / "paddle2onnx"
    name = "python_parity_paddle2onnx"
    runs.append(judged.run(name, log_dir, _folders_of(runs), (export.name,)))
    return Plan(model_name, log_dir, tuple(runs))


def plan_ptq(path: Path, mode: str) -> Plan:
    """`test_ptq_inference_python.sh`: an INT8 graph, run by each backend, verdict.

    Raises:
        UsageError: the file or the mode is wrong, or the bundle is not there.
    """
    check_mode(mode, ("klquant_whole_infer", "whole_infer"))
    sections = read_config(path, "ptq_params")
    params, infer = sections["ptq_params"], sections["infer_params"]
    model_name, python = params["model_name"], params["python"]
    command = params.get(params["trainer"], NULL)
    if command == NULL:
        raise UsageError(f"{path}: trainer:{params['trainer']}: 'trainer:PTQ' is expected")
    source = _made_by("test_paddle2onnx.sh", Path(params["--model_dir"]) / "deploy.yaml")
    weights = checkpoint_of(source.parent)
    log_dir = OUTPUT_ROOT / model_name / "ptq"
    folder = log_dir / "bundle"
    installed = [name for name in choices_of(infer["--backend"]) if not why_no_backend(name)]
    budgets = flag("--budgets", params["--budgets"])
    quantize = Run(
        "export",
        "python_ptq",
        (
            *(python, *split_command(command), f"--config={source}", f"--data={params['--data']}"),
            *(*flag("--calibration_images", params["--calibration_images"]), *budgets),
            *("--backend", *installed, f"--save_dir={folder}"),
        ),
        why_no_backend("onnxruntime"),  # it calibrates
    )
    needs = (quantize.name,)
    settings = {**infer, "--cpu_threads": NULL}
    quantized = list(_backend_runs(python, settings, folder, needs, "int8"))
    judged = Comparison(
        python, params["--config"], weights, folder / "deploy.yaml", infer["--image_path"]
    )
    judge = judged.run("python_parity_ptq", log_dir, _folders_of(quantized), needs, budgets)
    return Plan(model_name, log_dir, (quantize, *quantized, judge))


def _backend_runs(
    python: str,
    params: Mapping[str, str],
    folder: Path,
    needs: tuple[str, ...],
    precision: str = "fp32",
) -> Iterator[Run]:
    """`infer.py` with each backend x threads x batch size on the bundle in `folder`."""
    for backend, threads, batch in product(
        choices_of(params["--backend"]),
        choices_of(params["--cpu_threads"]),
        choices_of(params["--batch_size"]),
    ):
        spelled = f"infer_cpu_{backend}_threads_{threads}_precision_{precision}_batchsize_{batch}"
        results = folder / f"python_{spelled}_results"
        command = (
            *(python, *split_command(params["inference"]), "--device=cpu"),
            *(f"--backend={backend}", *flag("--cpu_threads", threads), f"--batch_size={batch}"),
            *flag("--precision", precision if precision != "fp32" else NULL),
            *flag("--benchmark", params.get("--benchmark", NULL)),
            *(f"--config={folder / 'deploy.yaml'}", f"--image_path={params['--image_path']}"),
            f"--save_dir={results}",
        )
        asked = Asked(
            backend,
            precision,
            int(threads) if threads != NULL else None,
            batch_size=int(batch) if batch != NULL else None,
        )
        reason = why_no_backend(backend)
        yield Run("infer", f"python_{spelled}", command, reason, results, needs, asked)


def _folders_of(runs: list[Run]) -> list[str]:
    """`NAME=DIR` of every run that leaves predictions."""
    return [
        f"{run.name.removeprefix('python_')}={run.results}"
        for run in runs
        if run.results is not None and not run.reason
    ]


def _made_by(script: str, path: Path) -> Path:
    """`path`, if another chain has made it.

    Raises:
        UsageError: it is not there; the script is named.
    """
    if not path.is_file():
        raise UsageError(
            f"'{path}' does not exist: run test_tipc/{script} with this network's txt first"
        )
    return path


def plan_serving(path: Path, mode: str) -> Plan:
    """`test_serving_infer_python.sh`: the HTTP service's answers against the eager network's.

    Raises:
        UsageError: the file or the mode is wrong, or the bundle is not there.
    """
    check_mode(mode, ("whole_infer",))
    params = read_config(path, "serving_params")["serving_params"]
    model_name, python = params["model_name"], params["python"]
    bundle = _made_by(TRAIN_SCRIPT, Path(params["--dirname"]) / "deploy.yaml")
    weights = checkpoint_of(bundle.parent)
    log_dir = OUTPUT_ROOT / model_name / "serving"
    runs = []
    for backend in choices_of(params["--backend"]):
        name = f"serving_cpu_{backend}"
        results = log_dir / f"python_{name}_results"
        service = (python, *split_command(params["web_service"]), f"--config={bundle}")
        command = (
            *(python, *split_command(params["pipline"])),
            *(f"--image_path={params['--image_path']}", f"--save_dir={results}"),
            *("--", *service, f"--backend={backend}"),
        )
        reason = why_no_backend(backend)
        asked = Asked(backend)
        runs.append(Run("serve", f"python_{name}", command, reason, results, asked=asked))
    judged = Comparison(python, params["--config"], weights, bundle, params["--image_path"])
    needs = tuple(run.name for run in runs)
    runs.append(judged.run("python_parity_serving", log_dir, _folders_of(runs), needs))
    return Plan(model_name, log_dir, tuple(runs))


def plan_dy2static(path: Path, mode: str) -> Plan:
    """`test_train_dy2static_python.sh`: the same training in dynamic and in static graph.

    Raises:
        UsageError: the file or the mode is wrong.
    """
    check_mode(mode, ("lite_train_lite_infer",))
    sections = read_config(path, "train_params")
    train = sections["train_params"]
    python, model_name = train["python"], train["model_name"]
    to_static = _tail(sections, "to_static_train_benchmark_params", path)["to_static_train"]
    variant = next(variants_of(train))
    log_dir = OUTPUT_ROOT / model_name / "dy2static"
    evaluation = sections["eval_params"]["eval"]
    export = sections["export_params"]["norm_export"]
    runs, results, weights = [], [], {}
    for name, extra in (("dygraph", ""), ("to_static", to_static)):
        folder = log_dir / name
        weights[name] = folder / train["train_model_name"]
        command = training_command(train, variant, mode, folder, extra)
        training = Run("train", f"python_train_{name}", command, variant.reason)
        scored = folder / "python_eval_results"
        scoring = [python, *split_command(evaluation), *flag("--device", variant.device)]
        scoring += [f"--model_path={weights[name]}", f"--save_dir={scored}"]
        results.append(f"eval_{name}={scored}")
        needs = (training.name,)
        runs += [training, Run("eval", f"python_eval_{name}", tuple(scoring), "", scored, needs)]
    trainings = tuple(run.name for run in runs if run.kind == "train")
    losses = [str(log_dir / name / "history.json") for name in weights]
    compared = (python, "-m", "paddleseg_ext", "tipc", "losses", *losses)
    runs.append(Run("check", "python_losses", compared, needs=trainings))
    bundle = log_dir / "to_static" / "deploy.yaml"
    exported = [python, *split_command(export), f"--model_path={weights['to_static']}"]
    exported += [f"--save_dir={bundle.parent}"]
    runs.append(Run("export", "python_export_to_static", tuple(exported), needs=trainings))
    judged = Comparison(
        *(python, option_of(export, "--config"), weights["to_static"], bundle),
        sections["infer_params"]["--image_path"],
    )
    made = (*trainings, "python_export_to_static")
    runs.append(judged.run("python_parity_dy2static", log_dir, results, made))
    return Plan(model_name, log_dir, tuple(runs))


def _tail(sections: Sections, name: str, path: Path) -> Mapping[str, str]:
    if name not in sections:
        raise UsageError(f"{path}: the section '==={name}===' is missing, which this chain reads")
    return sections[name]


def plan_benchmark(path: Path, mode: str, params: str = "") -> Plan:
    """`benchmark_train.sh`: the speed of training, with PaddlePaddle's names of files and keys.

    Args:
        params: `dynamic_bs8_fp32_DP_N1C1` (`dynamicTostatic_...` trains in static graph); empty:
            every batch_size and fp_items of the file.

    Raises:
        UsageError: the file, the mode or the parameters are wrong.
    """
    check_mode(mode, ("benchmark_train",))
    sections = read_config(path, "train_params")
    train = sections["train_params"]
    tail = _tail(sections, "train_benchmark_params", path)
    log_dir = OUTPUT_ROOT / train["model_name"] / mode
    runs: list[Run] = []
    for case in _speed_cases(params, tail):
        extra = ""
        if case.to_static:
            extra = _tail(sections, "to_static_train_benchmark_params", path)["to_static_train"]
        changed = dict(train) | {
            "gpu_list": ",".join(map(str, range(case.processes))),
            "--device": choices_of(train["--device"])[0],
            "--precision": NULL if case.precision in (NULL, "fp32") else case.precision,
            "--iters": tail["epoch"],
            "--batch_size": case.batch_size,
        }
        variant = next(variants_of(changed))
        name = f"{train['model_name']}_{case.name}"
        flags = [word for word in tail.get("flags", NULL).split(";") if word not in (NULL, "")]
        plain = f"{name}_log"
        ways = {plain: extra}
        if case.processes == 1 and tail["--profile"] != NULL:
            ways = {f"{name}_profiling": f"{extra} --profile={tail['--profile']}"} | ways
        for log_name, more in ways.items():
            folder = log_dir / "train" / log_name
            command = training_command(changed, variant, mode, folder, more)
            command = ("env", *flags, *command) if flags else command
            runs.append(Run("train", log_name, command, variant.reason))
        histories = [str(log_dir / "train" / log_name / "history.json") for log_name in ways]
        if len(ways) > 1:
            command = (train["python"], "-m", "paddleseg_ext", "tipc", "losses", *histories)
            runs.append(Run("check", f"{name}_losses", command, needs=tuple(ways)))
        command = (
            *(train["python"], "-m", "paddleseg_ext", "tipc", "speed"),
            *(str(log_dir / f"{plain}.log"), str(log_dir / "index" / f"{name}_speed")),
        )
        runs.append(Run("check", f"{name}_speed", command, needs=(plain,)))
    return Plan(train["model_name"], log_dir, tuple(runs))


@dataclass(frozen=True)
class _SpeedCase:
    """One measurement of `benchmark_train.sh`."""

    batch_size: str
    precision: str
    run_mode: str = "DP"
    devices: str = "N1C1"
    to_static: bool = False

    @property
    def processes(self) -> int:
        """Of one machine."""
        return int(self.devices.partition("C")[2])

    @property
    def name(self) -> str:
        """As PaddlePaddle's benchmarks spell it."""
        name = f"bs{self.batch_size}_{self.precision}_{self.run_mode}_{self.devices}"
        return f"{name}_d2sT" if self.to_static else name


def _speed_cases(params: str, tail: Mapping[str, str]) -> list[_SpeedCase]:
    batches, precisions = choices_of(tail["batch_size"]), choices_of(tail["fp_items"])
    if params in ("", "dynamicTostatic"):
        return [
            _SpeedCase(batch, precision, to_static=bool(params))
            for batch, precision in product(batches, precisions)
        ]
    found = _PARAMS.fullmatch(params)
    if not found:
        raise UsageError(
            f"'{params}': 'dynamic_bs8_fp32_DP_N1C1' is expected (model type, batch size, "
            "precision, run mode, machines and processes on each)"
        )
    model_type, batch, precision, run_mode, devices = found.groups()
    return [_SpeedCase(batch, precision, run_mode, devices, model_type == "dynamicTostatic")]


CHAINS: dict[str, Callable[..., Plan]] = {
    "train_infer": plan_train_infer,
    "paddle2onnx": plan_paddle2onnx,
    "ptq": plan_ptq,
    "dy2static": plan_dy2static,
    "serving": plan_serving,
    "benchmark": plan_benchmark,
}
_CHAIN_OF = {
    "train_params": "train_infer",
    "paddle2onnx_params": "paddle2onnx",
    "ptq_params": "ptq",
    "serving_params": "serving",
}


def make_plan(path: Path, mode: str, chain: str | None = None, params: str = "") -> Plan:
    """The commands of a chain, in order.

    Args:
        chain: one of CHAINS; None: what the file is for (`benchmark_train` tells by the mode).
        params: of `benchmark_train.sh`.

    Raises:
        UsageError: the file or the mode is wrong.
    """
    if chain is None:
        chain = _CHAIN_OF[kind_of(read_lines(path), path)]
        if mode == "benchmark_train" and chain == "train_infer":
            chain = "benchmark"
    if params:
        if chain != "benchmark":
            raise UsageError(f"'{params}': only benchmark_train.sh takes a third argument")
        return plan_benchmark(path, mode, params)
    return CHAINS[chain](path, mode)
