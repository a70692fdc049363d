"""Reading a TIPC config: what PaddleSeg's shell gets wrong must be right or refused here."""

from itertools import product
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference import runtime
from paddleseg_ext.inference.bundle import write_deploy_yaml
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeSpec, TensorRtOptions
from paddleseg_ext.tipc import train_infer

CONFIG = """\
===========================train_params===========================
model_name:net
python:python
gpu_list:0
--device:cpu
--precision:null
--iters:lite_train_lite_infer=4|whole_train_whole_infer=160000
--save_dir:
--batch_size:lite_train_lite_infer=2|whole_train_whole_infer=4
--model_path:null
train_model_name:best_model/model.pdparams
train_infer_img_dir:data/infer.list
null:null
##
trainer:norm
norm_train:train.py --config net.yml --do_eval
pact_train:null
fpgm_train:null
distill_train:null
null:null
null:null
##
===========================eval_params===========================
eval:val.py --config net.yml
null:null
##
===========================export_params===========================
--save_dir:
--model_path:
norm_export:export_model.py --config net.yml
quant_export:null
fpgm_export:null
distill_export:null
export1:null
export2:null
===========================infer_params===========================
infer_model:models/net/best_model/model.pdparams
infer_export:export_model.py --config net.yml
infer_quant:False
inference:infer.py
--device:cpu
--enable_mkldnn:False|True
--cpu_threads:1|2
--batch_size:1|2
--use_trt:False
--precision:fp32
--config:
--image_path:data/infer.list
--save_log_path:null
--benchmark:True
--save_dir:
--model_name:net
"""
MODE = "lite_train_lite_infer"


@pytest.fixture
def write(tmp_path):
    """Write CONFIG, with one text replaced by another; gives its path."""

    def with_change(old: str = "", new: str = "") -> Path:
        assert old in CONFIG
        path = tmp_path / "train_infer_python.txt"
        path.write_text(CONFIG.replace(old, new, 1) if old else CONFIG)
        return path

    return with_change


def test_the_chain_runs_training_eval_export_the_whole_matrix_and_the_verdict(write):
    plan = train_infer.plan_train_infer(write(), MODE)
    assert [run.kind for run in plan.runs] == ["train", "eval", "export", *["infer"] * 8, "parity"]
    assert plan.log_dir == Path("test_tipc/output/net") / MODE
    folder = "test_tipc/output/net/norm_gpus_0_autocast_null"
    train, evaluation, export, infer, *_, parity = plan.runs
    assert train.command == (
        *["python", "train.py", "--config", "net.yml", "--do_eval", "--device=cpu", "--iters=4"],
        "--batch_size=2",
        f"--save_dir={folder}",
    )
    assert f"--model_path={folder}/best_model/model.pdparams" in evaluation.command
    assert f"--save_dir={folder}" in export.command
    name = "python_infer_cpu_usemkldnn_False_threads_1_precision_fp32_batchsize_1"
    assert infer.name == name
    assert f"--config={folder}/deploy.yaml" in infer.command
    assert f"--save_dir={folder}/{name}_results" in infer.command
    assert parity.command[:4] == ("python", "-m", "paddleseg_ext", "parity")
    assert "--config=net.yml" in parity.command
    assert f"eval={folder}/python_eval_results" in parity.command
    assert sum(word.startswith("infer_cpu_") for word in parity.command) == 8


def test_blank_lines_and_a_value_with_a_colon_change_nothing_else(write):
    spread = write("model_name:net\n", "\n\nmodel_name:net\n\n")
    assert train_infer.plan_train_infer(spread, MODE) == train_infer.plan_train_infer(write(), MODE)
    plan = train_infer.plan_train_infer(
        write("--config net.yml --do_eval", "--config a:b.yml"), MODE
    )
    assert "a:b.yml" in plan.runs[0].command


def test_whole_infer_starts_from_the_given_checkpoint(write):
    plan = train_infer.plan_train_infer(write(), "whole_infer")
    assert [run.kind for run in plan.runs] == ["eval", "export", *["infer"] * 8, "parity"]
    assert "--model_path=models/net/best_model/model.pdparams" in plan.runs[0].command
    assert "--save_dir=models/net" in plan.runs[1].command


def test_the_mode_selects_iterations_and_batch_size(write):
    command = train_infer.plan_train_infer(write(), "whole_train_whole_infer").runs[0].command
    assert {"--iters=160000", "--batch_size=4"} <= set(command)


def test_two_trainings_keep_their_logs_and_predictions_apart(write):
    plan = train_infer.plan_train_infer(write("trainer:norm\n", "trainer:norm|norm_train\n"), MODE)
    names = [run.name for run in plan.runs]
    assert len(names) == len(set(names)) == 24
    folders = [word for run in plan.runs for word in run.command if word.startswith("--save_dir")]
    assert len([f for f in folders if f.endswith("_results")]) == 18
    assert len({f for f in folders if f.endswith("_results")}) == 18


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("--precision:fp32\n--config", "--precision:int8\n--config", "int8 needs a GPU"),
        ("--precision:fp32\n--config", "--precision:bf16\n--config", "bf16 "),
        ("--device:cpu\n--enable", "--device:gpu\n--enable", "is the CPU build"),
    ],
)
def test_what_cannot_run_here_is_listed_with_its_reason_and_not_passed(
    write, monkeypatch, old, new, reason
):
    monkeypatch.setattr(train_infer, "has_gpu_build", lambda: False)
    monkeypatch.setattr(runtime, "has_bf16", lambda: False)
    plan = train_infer.plan_train_infer(write(old, new), MODE)
    skipped = [run for run in plan.runs if run.reason]
    assert skipped
    assert all(reason in run.reason for run in skipped)
    assert not any(run.kind == "infer" and not run.reason for run in plan.runs)
    assert skipped[0].shown_command.startswith("python infer.py")


def test_training_on_graphics_cards_is_launched_on_them(write):
    plan = train_infer.plan_train_infer(
        write("gpu_list:0\n--device:cpu", "gpu_list:3|0,1\n--device:gpu|gpu"), MODE
    )
    first, second = (run.command for run in plan.runs if run.kind == "train")
    assert first[:3] == ("env", "CUDA_VISIBLE_DEVICES=3", "python")
    folder = "test_tipc/output/net/norm_gpus_0,1_autocast_null"
    assert second[:3] == ("python", "-m", "paddle.distributed.launch")
    assert second[3:5] == (f"--log_dir={folder}/launch", "--gpus=0,1")


def test_a_shown_command_quotes_its_words(write):
    plan = train_infer.plan_train_infer(
        write("--config net.yml --do_eval", "--config 'my net.yml'"), MODE
    )
    assert "--config 'my net.yml' --device=cpu" in plan.runs[0].shown_command


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--precision:null", "--precison:null", r"line 6: unknown key '--precison'.*'--precision'"),
        ("===export_params===", "===exprt_params===", "unknown section 'exprt_params'.*export_par"),
        ("eval:val.py --config net.yml\n", "", "'eval' is missing in '===eval_params==='"),
        ("model_name:net\n", "model_name:net\nmodel_name:net\n", "'model_name' is given twice"),
        ("model_name:net\n", "model_name net\n", "'key:value' is expected, got 'model_name net'"),
        ("null:null\n", "null:something\n", "does nothing"),
        ("lite_train_lite_infer=4", "lite_train_lite_infr=4", "'mode=value|...' is expected"),
        ("lite_train_lite_infer=4|", "", "--iters: no value for mode 'lite_train_lite_infer'"),
        ("trainer:norm\n", "trainer:quick\n", "a command 'quick_train' is expected"),
        ("trainer:norm\n", "trainer:pact\n", "a command 'pact_train' is expected"),
        ("gpu_list:0", "gpu_list:0|0,1", "one device for each"),
        ("--device:cpu\n--enable", "--device:npu\n--enable", "cpu or gpu is expected, got 'npu'"),
        ("export_model.py --config net.yml", "export_model.py", "--config is expected in it"),
    ],
)
def test_what_is_not_understood_stops_at_once(write, old, new, message):
    with pytest.raises(UsageError, match=message):
        train_infer.plan_train_infer(write(old, new), MODE)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("lite_train_lite_infr", "unknown mode.*did you mean 'lite_train_lite_infer'"),
        ("benchmark_train", "not run by this chain"),
    ],
)
def test_an_unknown_mode_stops_at_once(write, mode, message):
    with pytest.raises(UsageError, match=message):
        train_infer.plan_train_infer(write(), mode)


def test_a_missing_section_and_a_missing_file_stop_at_once(tmp_path):
    path = tmp_path / "cut.txt"
    path.write_text(CONFIG[: CONFIG.index("===========================infer_params")])
    with pytest.raises(UsageError, match="the section '===infer_params===' is missing"):
        train_infer.plan_train_infer(path, MODE)
    with pytest.raises(UsageError, match="does not exist"):
        train_infer.plan_train_infer(tmp_path / "none.txt", MODE)


def test_benchmark_tails_are_left_to_their_own_chain(write):
    path = write()
    path.write_text(
        path.read_text()
        + "===train_benchmark_params===\nbatch_size:2\nfp_items:fp32\nepoch:4\n--profile:null\n"
    )
    assert len(train_infer.plan_train_infer(path, MODE).runs) == 12


BUNDLE = ("infer_export:export_model.py --config net.yml", "infer_export:null")
MODEL = "infer_model:models/net/best_model/model.pdparams"


def test_whole_infer_without_an_export_judges_the_bundle_as_it_is(write, tmp_path, monkeypatch):
    checkpoint = tmp_path / "weights.pdparams"
    checkpoint.write_bytes(b"x")
    manifest = Manifest("Net", generic_table(3), checkpoint={"path": str(checkpoint)})
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("model.json", "model.pdiparams"):
        (folder / name).write_bytes(b"x")
    write_deploy_yaml(folder, [], [-1, 3, -1, -1], "none", manifest)
    path = write(*BUNDLE)
    path.write_text(path.read_text().replace(MODEL, f"infer_model:{folder}"))
    plan = train_infer.plan_train_infer(path, "whole_infer")
    assert [run.kind for run in plan.runs] == ["eval", *["infer"] * 8, "parity"]
    assert f"--model_path={checkpoint}" in plan.runs[0].command
    assert f"--bundle={folder}/deploy.yaml" in plan.runs[-1].command
    assert "--config=net.yml" in plan.runs[-1].command
    checkpoint.unlink()
    with pytest.raises(UsageError, match=r"the bundle's checkpoint: .* does not exist"):
        train_infer.plan_train_infer(path, "whole_infer")


def test_whole_infer_without_a_bundle_stops_at_once(write):
    with pytest.raises(UsageError, match="does not exist"):
        train_infer.plan_train_infer(write(*BUNDLE), "whole_infer")
    with pytest.raises(UsageError, match="infer_model: a checkpoint, or the folder"):
        train_infer.plan_train_infer(write(MODEL, "infer_model:null"), "whole_infer")


GPU_MATRIX = """--device:gpu
--enable_mkldnn:False
--cpu_threads:1
--batch_size:2
--use_trt:False|True
--precision:fp32|fp16|int8
"""
CPU_MATRIX = """--device:cpu
--enable_mkldnn:False|True
--cpu_threads:1|2
--batch_size:1|2
--use_trt:False
--precision:fp32
"""


@pytest.mark.parametrize(("version", "int8_runs"), [("2.6.2", True), ("3.2.2", False)])
def test_the_matrix_of_a_gpu(write, monkeypatch, version, int8_runs):
    """INT8 is TensorRT's of Paddle 2.6, which measures in a first run; that one is not judged."""
    monkeypatch.setattr(train_infer, "has_gpu_build", lambda: True)
    monkeypatch.setattr(train_infer, "gpu_build_version", lambda: version)
    plan = train_infer.plan_train_infer(write(CPU_MATRIX, GPU_MATRIX), MODE)
    runs = {run.name.removeprefix("python_infer_gpu_"): run for run in plan.runs}
    for use_trt, precision in product((False, True), ("fp32", "fp16", "int8")):
        run = runs[f"usetrt_{use_trt}_precision_{precision}_batchsize_2"]
        tensorrt = TensorRtOptions() if use_trt else None
        assert run.runtime == RuntimeSpec("paddle", precision, "gpu", tensorrt=tensorrt)
        assert run.batch_size == 2
        assert bool(run.reason) is (precision == "int8" and not (int8_runs and use_trt))
        assert {"--device=gpu", f"--use_trt={use_trt}", f"--precision={precision}"} <= {
            *run.command
        }
    first = runs["usetrt_True_precision_int8_batchsize_2_calibration"]
    judged = " ".join(plan.runs[-1].command)
    assert not first.runtime and bool(first.reason) is not int8_runs
    assert "calibration" not in judged
    assert ("usetrt_True_precision_int8" in judged) is int8_runs
    assert "usetrt_True_precision_fp16" in judged


def test_a_txt_for_several_machines_is_planned(write) -> None:
    """PaddleSeg's fleet txt: the addresses of the machines, then the cards of each."""
    path = write("gpu_list:0\n", "gpu_list:10.0.0.1,10.0.0.2;0,1\n")
    plan = train_infer.plan_train_infer(path, MODE)
    training = plan.runs[0]
    assert training.name == "python_train_norm_gpus_0,1_autocast_null_nodes_2"
    assert "--ips=10.0.0.1,10.0.0.2" in training.command
    assert "--nproc_per_node=2" in training.command
    assert training.reason.startswith("several machines: start this command on each of 10.0.0.1,")
    assert all(training.name in run.needs for run in plan.runs[1:])
    alone = train_infer.plan_train_infer(write("gpu_list:0\n", "gpu_list:10.0.0.1;0,1\n"), MODE)
    assert not alone.runs[0].reason and "--ips=10.0.0.1" in alone.runs[0].command


@pytest.mark.parametrize(
    ("key", "word"), [("pact_train", "PACT"), ("fpgm_train", "FPGM"), ("fpgm_export", "FPGM")]
)
def test_lines_that_are_not_offered_are_reported(write, key: str, word: str) -> None:
    command = "deploy/slim/quant/qat_train.py --config net.yml"
    plan = train_infer.plan_train_infer(write(f"{key}:null\n", f"{key}:{command}\n"), MODE)
    (reported,) = [run for run in plan.runs if "not offered" in run.reason]
    assert reported.name == f"python_{key}" and reported.reason.startswith(word)
    assert reported.shown_command == f"python {command}"
    assert any(run.kind == "train" and not run.reason for run in plan.runs)


def test_a_trainer_that_is_not_offered_is_reported_and_nothing_is_deployed(write) -> None:
    path = write("pact_train:null\n", "pact_train:qat_train.py --config net.yml\n")
    path.write_text(path.read_text().replace("trainer:norm\n", "trainer:pact_train\n"))
    plan = train_infer.plan_train_infer(path, MODE)
    assert [run.name for run in plan.runs] == ["python_train_pact_train_gpus_0_autocast_null"]
    assert plan.runs[0].reason.startswith("PACT (training for INT8) is not offered")
