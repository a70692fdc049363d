"""The linter of TIPC's txt files: every fault by file and line, with its remedy; never a crash."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddleseg_ext.tipc.lint import lint_file, lint_files

PROJECT = Path(__file__).resolve().parents[3]
CONFIGS = sorted((PROJECT / "test_tipc/configs").glob("*/*.txt"))
TRAIN = PROJECT / "test_tipc/configs/bisenetv1/train_infer_python.txt"
ONNX = PROJECT / "test_tipc/configs/bisenetv1/paddle2onnx_python.txt"
PTQ = PROJECT / "test_tipc/configs/bisenetv1/train_ptq_infer_python.txt"
SERVING = PROJECT / "test_tipc/configs/bisenetv1/serving_infer_python.txt"
EXPORT = (
    "norm_export:export_model.py "
    "--config test_tipc/configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"
)


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(PROJECT)


@pytest.fixture
def change(tmp_path):
    """Write a config with one text replaced by another; gives its path."""

    def with_change(source: Path, old: str, new: str) -> Path:
        text = source.read_text()
        assert old in text
        path = tmp_path / source.name
        path.write_text(text.replace(old, new, 1))
        return path

    return with_change


def test_every_config_of_the_project_is_clean(verbs):
    assert len(CONFIGS) == 48
    assert [str(problem) for problem in lint_files(CONFIGS, verbs)] == []


@pytest.mark.parametrize(
    ("old", "new", "below", "message"),
    [
        ("gpu_list:0\n", "", 0, "missing before this line: 'gpu_list:'"),
        ("##\ntrainer", "trainer", 0, "missing before this line: '##'"),
        ("gpu_list:0\n", "gpu_list:0\ngpu_list:0\n", 0, "'gpu_list:' is out of place or is given"),
        ("python:python\n", "pyton:python\n", 0, "unknown 'pyton:' (did you mean 'python'?)"),
        (
            "model_name:bisenetv1\npython:python\n",
            "python:python\nmodel_name:bisenetv1\n",
            0,
            "out",
        ),
        ("gpu_list:0\n", "gpu_list 0\n", 0, "'key:value' is expected, got 'gpu_list 0'"),
        ("=eval_params=", "=evl_params=", 0, "unknown '===evl_params==='"),
        ("null:null\n", "null:7\n", 0, "'null:7' does nothing"),
        ("gpu_list:0\n", "gpu_list:0|1\n", 1, "--device: one value for each of gpu_list:0|1"),
        ("|lite_train_whole_infer=30", "", 0, "no value for mode lite_train_whole_infer"),
        ("--iters:lite_train_lite_infer=30", "--iters:lite_trainn=30", 0, "did you mean 'lite_tr"),
        (
            "lite_train_lite_infer=30",
            "lite_train_lite_infer=many",
            0,
            "--iters: expected a whole number",
        ),
        (
            "--enable_mkldnn:False|True",
            "--enable_mkldnn:off",
            0,
            "True or False, got 'off'",
        ),
        ("--precision:fp32", "--precision:fp31", 0, "invalid choice: 'fp31'"),
        (" --do_eval", " --do_evl", 0, "'train.py' has no flag '--do_evl' (did you mean '--do_ev"),
        (" --config test_tipc/configs/bisenetv1/bisenetv1_lite.yml", "", 0, "needs --config"),
        ("eval:val.py", "eval:evaluate.py", 0, "'evaluate.py' does not exist here"),
        ("eval:val.py", "eval:benchmarks/load.py", 0, "is none of this project's commands"),
        ("inference:infer.py", "inference:inferr.py", 0, "'inferr.py' does not exist here"),
        ("val.py --config test_tipc", "val.py --config tst", 0, "does not exist"),
        ("val.py --config", "val.py 'unclosed --config", 0, "No closing quotation"),
        ("to_static_train:--to_static True", "to_static_train:--to_statc True", 0, "no flag '--to"),
        ("trainer:norm", "trainer:norm|foo", 0, "no command 'foo_train:' for 'foo'"),
        ("model_name:bisenetv1\n", "model_name:\n", 0, "a value is expected, got ''"),
        ("python:python\n", "python:null\n", 0, "a value is expected, got 'null'"),
        (
            "pact_train:null\n",
            "pact_train:x.py\n",
            0,
            "pact_train: PACT (training for INT8) is not",
        ),
        ("fpgm_export:null\n", "fpgm_export:x.py\n", 0, "fpgm_export: FPGM (pruning of filters)"),
        ("gpu_list:0\n", "gpu_list:x\n", 0, "'0', '0,1' or 'HOST,HOST;0,1' is expected"),
        (EXPORT, "norm_export:null", 0, "a value is expected"),
        ("train_model_name:best_model/model.pdparams", "train_model_name:null", 0, "a value is"),
        ("--profile:2", "--profil:2", 0, "unknown '--profil:' (did you mean '--profile'"),
    ],
)
def test_a_fault_is_named_by_line_and_remedy(verbs, change, old, new, below, message):
    found = lint_file(change(TRAIN, old, new), verbs)
    text = TRAIN.read_text()
    line = text[: text.index(old)].count("\n") + 1 + below
    assert any(p.line == line and message in p.message for p in found), "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("source", "old", "new", "message"),
    [
        (ONNX, "onnxruntime|openvino", "onnxruntim|openvino", "'onnxruntim'"),
        (ONNX, "--onnx True", "--onx True", "has no flag '--onx' (did you mean '--onnx'"),
        (ONNX, "--save_dir:", "--safe_dir:", "unknown '--safe_dir:'"),
        (SERVING, "tipc ask", "tipc aks", "there is no such command"),
        (SERVING, "--backend:paddle", "--backend:tensorrt", "'tensorrt'"),
        (SERVING, "--config:test_tipc", "--config:nope", "does not exist"),
        (SERVING, "--image_path:test_tipc/data/cityscapes/infer.list", "--image_path:", "a value"),
        (PTQ, "trainer:PTQ", "trainer:QAT", "no command 'QAT_train:' for 'QAT'"),
    ],
)
def test_other_kinds_of_files_are_checked_too(verbs, change, source, old, new, message):
    found = lint_file(change(source, old, new), verbs)
    assert any(message in problem.message for problem in found), "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "the file is blank"),
        (b"model_name:x\n", "is expected first, got 'model_name'"),
        (b"===tran_params===\n", "unknown section 'tran_params' (did you mean 'train_params'?)"),
        (b"\xff\xfe\x00", "a text in UTF-8 is expected"),
    ],
)
def test_a_file_of_no_kind_is_one_problem(verbs, tmp_path, content, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    (problem,) = lint_file(path, verbs)
    assert message in problem.message
    assert str(problem).startswith(f"{path}:1: ")


def test_a_missing_file_is_one_problem(verbs, tmp_path):
    (problem,) = lint_file(tmp_path / "none.txt", verbs)
    assert "does not exist" in problem.message


def test_blank_lines_are_no_fault(verbs, change):
    assert lint_file(change(TRAIN, "gpu_list", "\n\ngpu_list"), verbs) == []


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_no_mutation_crashes_the_linter(verbs, tmp_path, data):
    lines = data.draw(st.sampled_from(CONFIGS)).read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "swap", "text", "cut", "insert"]))
        if change == "drop" and len(lines) > 1:
            del lines[number]
        elif change == "double":
            lines.insert(number, lines[number])
        elif change == "swap":
            lines[number], lines[0] = lines[0], lines[number]
        elif change == "text":
            lines[number] = data.draw(st.text(max_size=30))
        elif change == "cut":
            lines[number] = lines[number][: data.draw(st.integers(0, len(lines[number])))]
        else:
            place = data.draw(st.integers(0, len(lines[number])))
            added = data.draw(st.text("|=:;#'\"- \tlite_train", max_size=6))
            lines[number] = lines[number][:place] + added + lines[number][place:]
    path = tmp_path / "mutated.txt"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    for problem in lint_file(path, verbs):
        assert problem.line >= 1
        assert problem.message
