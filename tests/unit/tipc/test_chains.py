"""The chains beside train-infer: what they run, what they say of what cannot run here."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError
from paddleseg_ext.export import mobile_graphs
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import write_deploy_yaml
from paddleseg_ext.inference.engines import table
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.tipc import chains, train_infer
from paddleseg_ext.tipc.chains import ChainRequest
from paddleseg_ext.tipc.suite import ENTRIES, networks
from paddleseg_ext.tipc.training import compare_losses, write_speed

PROJECT = Path(__file__).resolve().parents[3]
CONFIGS = Path("test_tipc/configs/bisenetv1")
TRAINED = Path("test_tipc/output/bisenetv1/norm_gpus_0_autocast_null")
LITE = "lite_train_lite_infer"


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A working folder with the project's configs and what the train-infer chain leaves."""
    (tmp_path / "test_tipc").mkdir()
    (tmp_path / "test_tipc/configs").symlink_to(PROJECT / "test_tipc/configs")
    monkeypatch.chdir(tmp_path)
    (TRAINED / "best_model").mkdir(parents=True)
    weights = TRAINED / "best_model/model.pdparams"
    weights.write_bytes(b"x")
    for name in ("model.json", "model.pdiparams"):
        (TRAINED / name).write_bytes(b"x")
    manifest = Manifest("Net", generic_table(3), checkpoint={"path": str(weights)})
    write_deploy_yaml(TRAINED, [], [-1, 3, -1, -1], "none", manifest)
    monkeypatch.setattr(chains, "why_no_engine", lambda name: "")
    return tmp_path


@pytest.fixture
def make_plan(verbs):
    def plan(path: Path, mode: str, chain: str | None = None, params: str = ""):
        return chains.make_plan(ChainRequest(path, mode, chain, params), verbs)

    return plan


def kinds(plan) -> list[str]:
    return [run.kind for run in plan.runs]


def test_onnx_is_converted_run_by_each_runtime_and_judged(make_plan, trained):
    plan = make_plan(CONFIGS / "paddle2onnx_python.txt", "whole_infer")
    assert kinds(plan) == ["export", *["infer"] * 8, "parity"]
    assert {"--onnx", "True", f"--model_path={TRAINED}/best_model/model.pdparams"} <= set(
        plan.runs[0].command
    )
    infer = plan.runs[1]
    assert {"--backend=onnxruntime", "--cpu_threads=2", "--batch_size=1"} <= set(infer.command)
    assert (infer.runtime, infer.batch_size) == (RuntimeSpec("onnxruntime", threads=2), 1)
    assert sum(word.startswith("infer_cpu_") for word in plan.runs[-1].command) == 8
    assert "--negative_controls" in plan.runs[-1].command
    assert all("python_paddle2onnx" in run.needs for run in plan.runs[1:])


def test_the_cpp_program_is_run_in_each_precision_and_judged(make_plan, trained):
    onnx = Path("test_tipc/output/bisenetv1/paddle2onnx")
    shutil.copytree(TRAINED, onnx)
    int8 = onnx.parent / "ptq/bundle"
    with pytest.raises(UsageError, match=r"test_ptq_inference_python\.sh"):
        make_plan(CONFIGS / "inference_cpp.txt", "whole_infer")
    shutil.copytree(TRAINED, int8)
    plan = make_plan(CONFIGS / "inference_cpp.txt", "whole_infer")
    assert kinds(plan) == [*["infer"] * 4, "parity"]
    assert all("make cpp" in run.reason for run in plan.runs[:4])
    Path("output/cpp").mkdir(parents=True)
    Path("output/cpp/segment").touch()
    plan = make_plan(CONFIGS / "inference_cpp.txt", "whole_infer")
    first, last = plan.runs[0], plan.runs[3]
    assert first.command[0] == "output/cpp/segment"
    assert {f"--config={onnx}/deploy.yaml", "--precision=fp32"} <= set(first.command)
    assert {f"--config={int8}/deploy.yaml", "--batch_size=2"} <= set(last.command)
    assert (last.runtime, last.batch_size) == (RuntimeSpec("openvino", "int8", threads=2), 2)
    verdict = plan.runs[-1]
    assert "--negative_controls" in verdict.command
    assert set(verdict.needs) == {run.name for run in plan.runs[:4]}


def test_graphs_of_phones_and_the_browser_are_compared(make_plan, trained, monkeypatch):
    monkeypatch.setattr(chains, "EDGE_STAGES", dict.fromkeys(("mnn", "ncnn", "web"), str))
    plan = make_plan(CONFIGS / "inference_edge.txt", "whole_infer")
    assert kinds(plan) == ["export", "parity"]
    export, verdict = (run.command for run in plan.runs)
    page = "--web=test_tipc/output/bisenetv1/edge/page"
    assert {"--mnn=True", "--ncnn=True", page} <= set(export)
    assert export[1:5] == ("export_model.py", "--input_shape", "256", "512")
    place = verdict.index("--stages")
    assert verdict[place:] == ("--stages", "static", "mnn", "ncnn", "web")
    assert "--negative_controls" in verdict
    assert "--bundle=test_tipc/output/bisenetv1/edge/bundle/deploy.yaml" in verdict


def test_an_edge_stage_that_cannot_run_is_not_run_and_not_converted(
    make_plan, trained, monkeypatch
):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    able = {**chains.EDGE_STAGES, "ncnn": lambda: "no pnnx"}
    monkeypatch.setattr(chains, "EDGE_STAGES", able)
    plan = make_plan(CONFIGS / "inference_edge.txt", "whole_infer")
    assert kinds(plan) == ["export", "parity", "parity", "parity"]
    export, ncnn, web, verdict = plan.runs
    assert "--mnn=True" in export.command
    assert not [word for word in export.command if word.startswith(("--ncnn", "--web"))]
    assert (ncnn.name, ncnn.reason) == ("python_parity_edge_ncnn", "no pnnx")
    assert "node, which is not installed" in web.reason
    assert verdict.command[-2:] == ("static", "mnn")
    monkeypatch.setattr(chains, "EDGE_STAGES", {**able, "mnn": lambda: "no MNN"})
    plan = make_plan(CONFIGS / "inference_edge.txt", "whole_infer")
    assert all(run.reason or export.name in run.needs for run in plan.runs)


def test_what_an_edge_stage_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(chains, "why_no_engine", lambda name: "")
    monkeypatch.setattr(mobile_graphs, "pnnx_program", lambda: None)
    assert "requirements/pnnx.txt" in chains.EDGE_STAGES["ncnn"]()
    monkeypatch.setattr(chains, "require_node", lambda: "node")
    monkeypatch.setenv("PADDLESEG_EXT_ONNXRUNTIME_WEB", str(tmp_path / "web.tgz"))
    assert "export_model.py --web DIR" in chains.EDGE_STAGES["web"]()
    (tmp_path / "web.tgz").touch()
    assert chains.EDGE_STAGES["web"]() == ""


def test_an_unknown_edge_stage_stops_at_once(make_plan, trained):
    text = (PROJECT / CONFIGS / "inference_edge.txt").read_text()
    Path("net.txt").write_text(text.replace("mnn|ncnn|web", "mnn|ncn"))
    with pytest.raises(UsageError, match=r"--stages.*'ncn'"):
        make_plan(Path("net.txt"), "whole_infer")


def test_int8_is_quantised_once_and_asked_for_of_each_runtime(make_plan, trained):
    onnx = Path("test_tipc/output/bisenetv1/paddle2onnx")
    shutil.copytree(TRAINED, onnx)
    plan = make_plan(CONFIGS / "train_ptq_infer_python.txt", "klquant_whole_infer")
    assert kinds(plan) == ["export", "infer", "infer", "parity"]
    assert f"--config={onnx}/deploy.yaml" in plan.runs[0].command
    for run in plan.runs[1:3]:
        assert "--precision=int8" in run.command
        assert run.runtime.precision == "int8"
    verdict = plan.runs[3].command
    assert f"--model_path={TRAINED}/best_model/model.pdparams" in verdict
    for command in (plan.runs[0].command, verdict):
        assert "--budgets=test_tipc/configs/int8_lite_budgets.yml" in command


def test_serving_starts_asks_and_judges(make_plan, trained):
    plan = make_plan(CONFIGS / "serving_infer_python.txt", "whole_infer")
    assert kinds(plan) == ["serve", "parity"]
    words = plan.runs[0].command
    behind = words[words.index("--") + 1 :]
    assert behind[:4] == ("python", "-m", "paddleseg_ext", "serve")
    assert f"--config={TRAINED}/deploy.yaml" in behind
    assert f"--backend={plan.runs[0].runtime.name}" in behind


def test_static_graph_training_is_compared_with_dynamic(make_plan, trained):
    plan = make_plan(CONFIGS / "train_infer_python.txt", LITE, "dy2static")
    assert kinds(plan) == ["train", "eval", "train", "eval", "check", "export", "parity"]
    dygraph, to_static = (run.command for run in plan.runs if run.kind == "train")
    assert set(to_static) - set(dygraph) == {
        *("--to_static", "True", "--save_dir=test_tipc/output/bisenetv1/dy2static/to_static"),
    }


def test_speed_is_measured_with_and_without_profile_and_fp16_needs_a_gpu(
    make_plan, trained, monkeypatch
):
    monkeypatch.setattr(train_infer, "has_gpu_build", lambda: False)
    plan = make_plan(CONFIGS / "train_infer_python.txt", "benchmark_train")
    assert kinds(plan) == ["train", "train", "check", "check"] * 2
    profiled, plain, *_ = plan.runs
    assert "--profile=2" in profiled.command
    assert not any("profile" in word for word in plain.command)
    assert plain.name == "bisenetv1_bs2_fp32_DP_N1C1_log"
    assert {"--iters=4", "--batch_size=2"} <= set(plain.command)
    assert "fp16 needs a GPU" in plan.runs[4].reason
    assert set(plan.runs[7].needs) == {plan.runs[5].name}


def test_parameters_of_the_benchmark_choose_one_measurement(make_plan, trained):
    path = CONFIGS / "train_infer_python.txt"
    plan = make_plan(path, "benchmark_train", params="dynamicTostatic_bs8_fp32_DP_N1C2")
    assert kinds(plan) == ["train", "check"]
    assert "--nproc_per_node=2" in plan.runs[0].command
    assert plan.runs[0].name == "bisenetv1_bs8_fp32_DP_N1C2_d2sT_log"
    with pytest.raises(UsageError, match="'dynamic_bs8_fp32_DP_N1C1' is expected"):
        make_plan(path, "benchmark_train", params="dynamic_8")
    with pytest.raises(UsageError, match=r"only benchmark_train\.sh"):
        make_plan(path, LITE, params="dynamic_bs8_fp32_DP_N1C1")


def test_two_processes_are_launched_on_a_cpu(make_plan, trained):
    plan = make_plan(CONFIGS / "train_distributed_infer_python.txt", LITE)
    train = plan.runs[0].command
    assert train[1:3] == ("-m", "paddle.distributed.launch")
    assert "--nproc_per_node=2" in train


def test_mixed_precision_needs_a_gpu_and_nothing_of_it_runs(make_plan, trained, monkeypatch):
    monkeypatch.setattr(train_infer, "has_gpu_build", lambda: False)
    plan = make_plan(CONFIGS / "train_amp_infer_python.txt", LITE)
    train, *others = plan.runs
    assert train.reason == train_infer.NO_GPU
    assert all(run.reason or train.name in run.needs for run in others)


@pytest.mark.parametrize(
    ("file", "script"),
    [
        ("paddle2onnx_python.txt", "test_train_inference_python.sh"),
        ("serving_infer_python.txt", "test_train_inference_python.sh"),
        ("train_ptq_infer_python.txt", "test_paddle2onnx.sh"),
        ("inference_cpp.txt", "test_paddle2onnx.sh"),
        ("inference_edge.txt", "test_train_inference_python.sh"),
    ],
)
def test_without_what_they_start_from_the_others_say_what_to_run(make_plan, trained, file, script):
    (TRAINED / "best_model/model.pdparams").unlink()
    (TRAINED / "deploy.yaml").unlink()
    with pytest.raises(UsageError, match=re.escape(script)):
        make_plan(CONFIGS / file, "whole_infer")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--do_eval", "--do_evl", "python_train_.*'train.py' has no flag '--do_evl'.*'--do_eval'"),
        ("--benchmark:True", "--benchmark:of", "python_infer_.*expected True or False, got 'of'"),
        ("norm_export:export_model.py ", "norm_export:export_model.py --onx True ", "'--onx'"),
    ],
)
def test_a_wrong_flag_of_any_command_stops_before_anything_runs(
    make_plan, trained, old, new, message
):
    text = (PROJECT / CONFIGS / "train_infer_python.txt").read_text()
    assert old in text
    Path("net.txt").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message):
        make_plan(Path("net.txt"), LITE)


def test_words_of_the_txt_are_planned_as_they_are_written(make_plan, trained):
    text = (PROJECT / CONFIGS / "train_infer_python.txt").read_text()
    written = "--opts 'loss.types=[a, b]' \"model.name=$HOME *\" "
    Path("net.txt").write_text(text.replace("--do_eval", written + "--do_eval"))
    plan = make_plan(Path("net.txt"), LITE)
    train = plan.runs[0]
    place = train.command.index("--opts")
    assert train.command[:2] == ("python", "train.py")
    assert train.command[place + 1 : place + 3] == ("loss.types=[a, b]", "model.name=$HOME *")
    assert tuple(shlex.split(train.shown_command)) == train.command


def test_the_installed_command_needs_no_interpreter(make_plan, trained):
    text = (PROJECT / CONFIGS / "serving_infer_python.txt").read_text()
    Path("net.txt").write_text(text.replace(":-m paddleseg_ext ", ":paddleseg-ext "))
    words = make_plan(Path("net.txt"), "whole_infer").runs[0].command
    assert words[:3] == ("paddleseg-ext", "tipc", "ask")
    assert words[words.index("--") + 1 :][:2] == ("paddleseg-ext", "serve")


def test_a_file_of_another_kind_and_another_mode_stop_at_once(make_plan, trained):
    with pytest.raises(UsageError, match=r"reads '===ptq_params==='.*'===paddle2onnx_params==='"):
        make_plan(CONFIGS / "paddle2onnx_python.txt", "whole_infer", "ptq")
    with pytest.raises(UsageError, match="not run by this chain; it runs whole_infer"):
        make_plan(CONFIGS / "paddle2onnx_python.txt", LITE)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(table, "find_spec", lambda name: None if name == "openvino" else name)
    assert "pip install 'paddleseg_ext[openvino]'" in chains.why_no_engine("openvino")
    assert chains.why_no_engine("paddle") == ""


def test_a_runtime_of_the_txt_is_named_as_everywhere(make_plan, trained):
    onnx = Path("test_tipc/output/bisenetv1/paddle2onnx")
    shutil.copytree(TRAINED, onnx)
    text = (PROJECT / CONFIGS / "paddle2onnx_python.txt").read_text()
    Path("net.txt").write_text(re.sub("onnxruntime.openvino.*", "openvino_int8", text))
    runtimes = {run.runtime for run in make_plan(Path("net.txt"), "whole_infer").runs}
    assert runtimes - {None} == {RuntimeSpec("openvino", "int8", threads=2)}
    Path("net.txt").write_text(re.sub("onnxruntime.openvino.*", "openvin", text))
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        make_plan(Path("net.txt"), "whole_infer")


def test_every_network_has_the_whole_suite(monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert len(networks()) == 6
    for network in networks():
        for entry in ENTRIES:
            assert (Path("test_tipc/configs") / network / entry.file).is_file()


def test_networks_differ_in_names_and_recipes_only(monkeypatch):
    """A change of one network's txt that was forgotten in another's shows here."""
    monkeypatch.chdir(PROJECT / "test_tipc/configs")
    for entry in ENTRIES:
        keys = {
            tuple(line.partition(":")[0] for line in (Path(n) / entry.file).read_text().split("\n"))
            for n in ("bisenetv1", "bisenetv2", "stdc1", "stdc2", "dabnet_r18")
        }
        assert len(keys) == 1, entry.file


def history(path: Path, losses: list[float]) -> Path:
    entries = [{"iter": n, "loss": loss, "lr": 0.1} for n, loss in enumerate(losses, 1)]
    path.write_text(json.dumps({"train": entries, "eval": []}))
    return path


def test_losses_are_compared_to_the_bit(tmp_path):
    first = history(tmp_path / "a.json", [2.5, 1.25])
    compare_losses(first, history(tmp_path / "b.json", [2.5, 1.25]))
    with pytest.raises(CheckFailed, match=r"iteration 2: the loss is 1\.25 in"):
        compare_losses(first, history(tmp_path / "b.json", [2.5, 1.2500000001]))
    with pytest.raises(CheckFailed, match="iterations 1 to 2"):
        compare_losses(first, history(tmp_path / "b.json", [2.5]))
    with pytest.raises(DataError, match="the number NaN, which is not finite"):
        compare_losses(*[history(tmp_path / f"{n}.json", [float("nan")]) for n in "ab"])
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(DataError, match=r"a history.json of train.py is expected"):
        compare_losses(first, tmp_path / "b.json")


def train_log(path: Path, speeds: list[float], of: int | None = None) -> Path:
    path.write_text(
        "".join(
            f"2026-01-01 00:00:00 [INFO]\t[TRAIN] epoch: 1, iter: {n}/{of or len(speeds)}, loss: "
            f"3.2500, lr: 0.010000, batch_cost: 1.0, reader_cost: 0.1, ips: {speed} samples/sec "
            "| ETA 00:00:01\n"
            for n, speed in enumerate(speeds, 1)
        )
    )
    return path


def test_speed_is_the_median_without_the_first_iterations(tmp_path):
    target = tmp_path / "index/net_bs2_fp32_DP_N1C1_speed"
    write_speed(train_log(tmp_path / "log", [100.0, 100.0, 2.0, 4.0, 3.0]), target)
    speed = json.loads(target.read_text())
    assert (speed["ips"], speed["steps"], speed["convergence_value"]) == (3.0, 3, 3.25)
    with pytest.raises(CheckFailed, match=r"a \[TRAIN\] line for each iteration"):
        write_speed(train_log(tmp_path / "log", [1.0, 2.0, 3.0], of=4), target)
    with pytest.raises(CheckFailed, match="more than 2 iterations"):
        write_speed(train_log(tmp_path / "log", [1.0, 2.0]), target)
