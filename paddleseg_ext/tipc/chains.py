"""TIPC's other chains: ONNX, INT8, C++, edge, serving, training in static graph, training speed.

Those of ONNX, INT8, C++, edge and serving start from bundles and checkpoints of the chains before;
the last two train on their own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, check_choice
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.export.mobile_graphs import require_pnnx
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.web.runtime_files import archive_file
from paddleseg_ext.parity.web_stage import require_node
from paddleseg_ext.tipc import train_infer, txt
from paddleseg_ext.tipc.plan import ChainRun, Judgement, Plan, read_config
from paddleseg_ext.tipc.verbs import Verbs

TRAIN_SCRIPT = "test_train_inference_python.sh"
SPEED_MODE = "benchmark_train"
_PARAMS = re.compile(r"(dynamic|dynamicTostatic)_bs([1-9]\d*)_(\w+?)_(\w+?)_(N1C[1-9]\d*)")


@dataclass(frozen=True)
class ChainRequest:
    """The chain that a user asks for.

    Attributes:
        config: the txt.
        mode: one of `txt.MODES`.
        chain: one of CHAINS; None: by the kind of the txt and the mode.
        params: of `benchmark_train.sh`: one measurement, `dynamic_bs2_fp32_DP_N1C1`.
    """

    config: Path
    mode: str
    chain: str | None = None
    params: str = ""


def why_no_engine(name: str) -> str:
    """Returns why an engine cannot run here; empty where it can."""
    entry = ENGINES[name]
    install = how_to_install(entry.extra)
    return "" if entry.is_installed else f"{name} is not installed: {install}"


def plan_paddle2onnx(path: Path, mode: str) -> Plan:
    """`test_paddle2onnx.sh`: bundle with ONNX graph, run by each runtime, verdict.

    Raises:
        UsageError: the file or the mode is wrong, or the checkpoint is missing.
    """
    sections = read_config(path, "paddle2onnx_params", mode, ("whole_infer",))
    params = sections["paddle2onnx_params"]
    plan = Plan.of(params, "paddle2onnx")
    config, images, folder = params["--config"], params["--image_path"], Path(params["--save_dir"])
    weights = _made_by(TRAIN_SCRIPT, Path(params["--model_path"]))
    words = plan.words(params["2onnx"], config=config, model_path=weights, save_dir=folder)
    asked = [name for name in ("mnn", "ncnn") if f"--{name}" in params["2onnx"].split()]
    # The conversion is checked in these on the spot.
    reasons = [why_no_engine(name) for name in ("onnxruntime", *asked)]
    reason = next(filter(None, reasons), "")
    export = plan.add(ChainRun("export", "python_paddle2onnx", words, reason))
    _add_inferences(plan, params, folder, export)
    judged = Judgement(
        "python_parity_paddle2onnx", config, weights, folder / "deploy.yaml", images, (export,)
    )
    return plan.judge(judged)


def plan_ptq(path: Path, mode: str) -> Plan:
    """`test_ptq_inference_python.sh`: an INT8 graph, run by each runtime, verdict.

    Raises:
        UsageError: the file or the mode is wrong, or the bundle is missing.
    """
    sections = read_config(path, "ptq_params", mode, ("klquant_whole_infer", "whole_infer"))
    params, infer = sections["ptq_params"], sections["infer_params"]
    command = params.get(params["trainer"], txt.NULL)
    if command == txt.NULL:
        raise UsageError(f"{path}: trainer:{params['trainer']}: 'trainer:PTQ' is expected")
    source = _made_by("test_paddle2onnx.sh", Path(params["--model_dir"]) / "deploy.yaml")
    plan = Plan.of(params, "ptq")
    folder, budgets = plan.log_dir / "bundle", params["--budgets"]
    wanted = txt.choices_of(infer["--backend"])
    reasons = {name: why_no_engine(RuntimeSpec.parse(name).engine) for name in wanted}
    installed = [name for name in wanted if not reasons[name]]
    words = plan.words(
        command, config=source, data=params["--data"],
        calibration_images=params["--calibration_images"], budgets=budgets,
    )  # fmt: skip
    words += ("--backend", *(installed or wanted), f"--save_dir={folder}")
    # ONNX Runtime calibrates.
    reason = why_no_engine("onnxruntime") or ("" if installed else reasons[wanted[0]])
    quantize = plan.add(ChainRun("export", "python_ptq", words, reason))
    _add_inferences(plan, {**infer, "--cpu_threads": txt.NULL}, folder, quantize, "int8")
    judged = Judgement(
        "python_parity_ptq", params["--config"], train_infer.checkpoint_of(source.parent),
        folder / "deploy.yaml", infer["--image_path"], (quantize,), budgets,
    )  # fmt: skip
    return plan.judge(judged)


def _add_inferences(
    plan: Plan, params: Mapping[str, str], folder: Path, export: str, precision: str | None = None
) -> None:
    """Appends `infer.py` with each runtime x threads x batch size on an exported bundle."""
    keys = ("--backend", "--cpu_threads", "--batch_size")
    for backend, threads, batch in product(*(txt.choices_of(params[key]) for key in keys)):
        runtime = RuntimeSpec.parse(backend, threads=txt.count_of(threads))
        runtime = replace(runtime, precision=precision or runtime.precision)
        spelled = f"{backend}_threads_{threads}_precision_{runtime.precision}_batchsize_{batch}"
        name = f"python_infer_cpu_{spelled}"
        results = folder / f"{name}_results"
        words = plan.words(
            params["inference"], device="cpu", backend=backend, cpu_threads=threads,
            batch_size=batch, precision=precision, benchmark=params.get("--benchmark"),
            config=folder / "deploy.yaml", image_path=params["--image_path"], save_dir=results,
        )  # fmt: skip
        reason = why_no_engine(runtime.engine) or runtime.why_no_bf16()
        plan.add(
            ChainRun("infer", name, words, reason, results, (export,), runtime, txt.count_of(batch))
        )


def plan_cpp(path: Path, mode: str) -> Plan:
    """`test_inference_cpp.sh`: the C++ program's label maps against the eager network's.

    Raises:
        UsageError: the file or the mode is wrong, or a bundle is missing.
    """
    params = read_config(path, "cpp_infer_params", mode, ("whole_infer",))["cpp_infer_params"]
    plan = Plan.of(params, "cpp")
    program, images = params["inference"], params["--image_path"]
    reason = "" if Path(program).is_file() else f"{program} is not built: make cpp (docs/cpp.md)"
    float_bundle = _made_by("test_paddle2onnx.sh", Path(params["--model_dir"]) / "deploy.yaml")
    bundles = {"fp32": float_bundle}
    keys = ("--precision", "--cpu_threads", "--batch_size")
    for precision, threads, batch in product(*(txt.choices_of(params[key]) for key in keys)):
        if precision == "int8":
            quantized = Path(params["--int8_model_dir"]) / "deploy.yaml"
            bundles["int8"] = _made_by("test_ptq_inference_python.sh", quantized)
        runtime = RuntimeSpec("openvino", precision, threads=txt.count_of(threads))
        name = f"cpp_infer_cpu_threads_{threads}_precision_{precision}_batchsize_{batch}"
        results = plan.log_dir / f"{name}_results"
        words = plan.words(
            "", program, config=bundles.get(precision, float_bundle), image_path=images,
            precision=precision, cpu_threads=threads, batch_size=batch, save_dir=results,
        )  # fmt: skip
        count = txt.count_of(batch)
        plan.add(ChainRun("infer", name, words, reason, results, runtime=runtime, batch_size=count))
    needs = tuple(run.name for run in plan.runs)
    weights = train_infer.checkpoint_of(float_bundle.parent)
    judged = Judgement(
        "python_parity_cpp", params["--config"], weights, float_bundle, images, needs,
        params["--budgets"],
    )  # fmt: skip
    return plan.judge(judged)


def _why_no_ncnn() -> str:
    return why_no_engine("ncnn") or _why_not(require_pnnx)


def _why_no_web() -> str:
    if reason := _why_not(require_node):
        return reason
    archive = archive_file()
    if archive.is_file():
        return ""
    return f"{archive} is missing, which 'export_model.py --web DIR' fetches once (docs/web.md)"


def _why_not(require: Callable[[], object]) -> str:
    try:
        require()
    except UsageError as error:
        return str(error)
    return ""


# Stage -> why it cannot run here; empty where it can.
EDGE_STAGES: Mapping[str, Callable[[], str]] = {
    "mnn": lambda: why_no_engine("mnn"),
    "ncnn": _why_no_ncnn,
    "web": _why_no_web,
}


def plan_edge(path: Path, mode: str) -> Plan:
    """`test_inference_edge.sh`: phones' engines and the browser's scripts, each compared.

    Raises:
        UsageError: the file or the mode is wrong, or the checkpoint is missing.
    """
    params = read_config(path, "edge_infer_params", mode, ("whole_infer",))["edge_infer_params"]
    plan = Plan.of(params, "edge")
    config, folder = params["--config"], Path(params["--save_dir"])
    weights = _made_by(TRAIN_SCRIPT, Path(params["--model_path"]))
    reasons = {}
    for stage in txt.choices_of(params["--stages"]):
        check_choice(f"{path}: --stages", stage, EDGE_STAGES)
        reasons[stage] = why_no_engine("onnxruntime") or EDGE_STAGES[stage]()
    able = tuple(stage for stage, reason in reasons.items() if not reason)
    flags: dict[str, object] = {stage: True for stage in able if stage != "web"}
    if "web" in able:
        flags["web"] = plan.log_dir / "page"
    words = plan.words(params["2edge"], config=config, model_path=weights, save_dir=folder, **flags)
    reason = "" if able else next(iter(reasons.values()))
    export = plan.add(ChainRun("export", "python_edge_export", words, reason))
    bundle, images = folder / "deploy.yaml", params["--image_list"]
    for stage in (stage for stage in reasons if stage not in able):
        words = plan.words(params["inference"], bundle=bundle, image_list=images, stages=stage)
        plan.add(ChainRun("parity", f"python_parity_edge_{stage}", words, reasons[stage]))
    judged = Judgement(
        "python_parity_edge", config, weights, bundle, images, (export,),
        command=params["inference"], stages=("static", *able),
    )  # fmt: skip
    return plan.judge(judged)


def _made_by(script: str, path: Path) -> Path:
    """Returns `path`, if another chain has made it.

    Raises:
        UsageError: it is missing; the script is named.
    """
    if not path.is_file():
        raise UsageError(
            f"'{path}' does not exist: run test_tipc/{script} with this network's txt first"
        )
    return path


def plan_serving(path: Path, mode: str) -> Plan:
    """`test_serving_infer_python.sh`: the HTTP service's label maps against the eager network's.

    Raises:
        UsageError: the file or the mode is wrong, or the bundle is missing.
    """
    params = read_config(path, "serving_params", mode, ("whole_infer",))["serving_params"]
    bundle = _made_by(TRAIN_SCRIPT, Path(params["--dirname"]) / "deploy.yaml")
    plan = Plan.of(params, "serving")
    images = params["--image_path"]
    for backend in txt.choices_of(params["--backend"]):
        name = f"python_serving_cpu_{backend}"
        results = plan.log_dir / f"{name}_results"
        service = plan.words(params["web_service"], config=bundle, backend=backend)
        words = plan.words(params["pipline"], image_path=images, save_dir=results)
        runtime = RuntimeSpec.parse(backend)
        reason = why_no_engine(runtime.engine)
        plan.add(
            ChainRun("serve", name, (*words, "--", *service), reason, results, runtime=runtime)
        )
    needs = tuple(run.name for run in plan.runs)
    weights = train_infer.checkpoint_of(bundle.parent)
    judged = Judgement("python_parity_serving", params["--config"], weights, bundle, images, needs)
    return plan.judge(judged)


def plan_dy2static(path: Path, mode: str) -> Plan:
    """`test_train_dy2static_python.sh`: the same training in dynamic and in static graph.

    Raises:
        UsageError: the file or the mode is wrong.
    """
    sections = read_config(path, "train_params", mode, ("lite_train_lite_infer",))
    train, export = sections["train_params"], sections["export_params"]["norm_export"]
    to_static = _tail(sections, "to_static_train_benchmark_params", path)["to_static_train"]
    variant = next(train_infer.variants_of(train))
    plan = Plan.of(train, "dy2static")
    for name, extra in (("dygraph", ""), ("to_static", to_static)):
        folder = plan.log_dir / name
        weights, scored = folder / train["train_model_name"], folder / "python_eval_results"
        words = train_infer.training_words(plan, variant, mode, folder, extra)
        needs = (plan.add(ChainRun("train", f"python_train_{name}", words, variant.reason)),)
        words = plan.words(
            sections["eval_params"]["eval"], device=variant.device, model_path=weights,
            save_dir=scored,
        )  # fmt: skip
        plan.add(ChainRun("eval", f"python_eval_{name}", words, "", scored, needs))
    # `folder` and `weights` are now those of the training in static graph.
    trainings = tuple(run.name for run in plan.runs if run.kind == "train")
    histories = [plan.log_dir / name / "history.json" for name in ("dygraph", "to_static")]
    plan.add(ChainRun("check", "python_losses", _own(plan, "losses", *histories), needs=trainings))
    words = plan.words(export, model_path=weights, save_dir=folder)
    exported = plan.add(ChainRun("export", "python_export_to_static", words, needs=trainings))
    judged = Judgement(
        "python_parity_dy2static", txt.option_of(export, "--config"), weights,
        folder / "deploy.yaml", sections["infer_params"]["--image_path"], (*trainings, exported),
    )  # fmt: skip
    return plan.judge(judged)


def _own(plan: Plan, action: str, *paths: Path) -> tuple[str, ...]:
    """Returns a call of this command's own actions."""
    return (*plan.words(f"-m paddleseg_ext tipc {action}"), *map(str, paths))


def _tail(sections: txt.Sections, name: str, path: Path) -> Mapping[str, str]:
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
    sections = read_config(path, "train_params", mode, (SPEED_MODE,))
    tail = _tail(sections, "train_benchmark_params", path)
    plan = Plan.of(sections["train_params"], mode)
    for case in _speed_cases(params, tail):
        extra = ""
        if case.to_static:
            extra = _tail(sections, "to_static_train_benchmark_params", path)["to_static_train"]
        _add_speed(plan, case, sections, extra)
    return plan


@dataclass(frozen=True)
class _SpeedCase:
    """One measurement of `benchmark_train.sh`."""

    to_static: bool
    batch_size: str
    precision: str
    run_mode: str = "DP"
    devices: str = "N1C1"

    @property
    def processes(self) -> int:
        """Number of processes per machine."""
        return int(self.devices.partition("C")[2])

    @property
    def name(self) -> str:
        """In the spelling of PaddlePaddle's benchmarks."""
        name = f"bs{self.batch_size}_{self.precision}_{self.run_mode}_{self.devices}"
        return f"{name}_d2sT" if self.to_static else name


def _speed_cases(params: str, tail: Mapping[str, str]) -> list[_SpeedCase]:
    if params in ("", "dynamicTostatic"):
        pairs = product(txt.choices_of(tail["batch_size"]), txt.choices_of(tail["fp_items"]))
        return [_SpeedCase(bool(params), *pair) for pair in pairs]
    found = _PARAMS.fullmatch(params)
    if not found:
        raise UsageError(
            f"'{params}': 'dynamic_bs8_fp32_DP_N1C1' is expected (model type, batch size, "
            "precision, run mode, machines and processes on each)"
        )
    model_type, *rest = found.groups()
    return [_SpeedCase(model_type == "dynamicTostatic", *rest)]


def _add_speed(plan: Plan, case: _SpeedCase, sections: txt.Sections, extra: str) -> None:
    """Appends one measurement: the training with and without profile, and the checks of its log.

    Args:
        extra: flags of the training.
    """
    train, tail = sections["train_params"], sections["train_benchmark_params"]
    changes = {
        "gpu_list": ",".join(map(str, range(case.processes))),
        "--device": txt.choices_of(train["--device"])[0],
        "--precision": txt.NULL if case.precision in (txt.NULL, "fp32") else case.precision,
        "--iters": tail["epoch"],
        "--batch_size": case.batch_size,
    }
    variant = next(train_infer.variants_of({**train, **changes}))
    environment = [word for word in tail.get("flags", txt.NULL).split(";") if word not in txt.UNSET]
    if environment:
        variant = replace(variant, start=("env", *environment, *variant.start))
    name = f"{plan.model_name}_{case.name}"
    plain = f"{name}_log"
    ways = {plain: extra}
    if case.processes == 1 and tail["--profile"] != txt.NULL:
        ways = {f"{name}_profiling": f"{extra} --profile={tail['--profile']}"} | ways
    histories = []
    for log_name, more in ways.items():
        folder = plan.log_dir / "train" / log_name
        words = train_infer.training_words(plan, variant, SPEED_MODE, folder, more)
        plan.add(ChainRun("train", log_name, words, variant.reason))
        histories.append(folder / "history.json")
    if len(ways) > 1:
        words = _own(plan, "losses", *histories)
        plan.add(ChainRun("check", f"{name}_losses", words, needs=tuple(ways)))
    logs = plan.log_dir / f"{plain}.log", plan.log_dir / "index" / f"{name}_speed"
    plan.add(ChainRun("check", f"{name}_speed", _own(plan, "speed", *logs), needs=(plain,)))


CHAINS: dict[str, Callable[..., Plan]] = {
    "train_infer": train_infer.plan_train_infer,
    "paddle2onnx": plan_paddle2onnx,
    "ptq": plan_ptq,
    "cpp": plan_cpp,
    "edge": plan_edge,
    "dy2static": plan_dy2static,
    "serving": plan_serving,
    "benchmark": plan_benchmark,
}


def make_plan(request: ChainRequest, verbs: Verbs) -> Plan:
    """Returns the commands of a chain, in order.

    Args:
        verbs: check the flags of every command.

    Raises:
        UsageError: the file, the mode or a flag is wrong.
    """
    path, mode, chain = request.config, request.mode, request.chain
    if chain is None:
        kind = txt.kind_of(txt.read_lines(path), path).removesuffix("_params")
        chain = kind.removesuffix("_infer")  # "cpp_infer_params", as PaddleSeg writes it
        if chain == "train":
            chain = "benchmark" if mode == SPEED_MODE else "train_infer"
    if request.params and chain != "benchmark":
        raise UsageError(f"'{request.params}': only benchmark_train.sh takes a third argument")
    more = [request.params] if request.params else []
    plan = CHAINS[chain](path, mode, *more)
    for run in plan.runs:
        try:
            verbs.require_sound(run.command)
        except UsageError as error:
            raise UsageError(f"{path}: {run.name}: {error}") from None
    return plan
