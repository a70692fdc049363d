"""Wrong use of val.py, predict.py and infer.py: status 2, one line, and before Paddle is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PROJECT

# Runs every command line of a JSON list in one process; tells status, output, and who was loaded.
RUNNER = """
import contextlib, io, json, runpy, sys
results = []
for script, *arguments in json.load(sys.stdin):
    err, status = io.StringIO(), 0
    sys.argv = [script, *arguments]
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as stop:
            status = stop.code
    loaded = [name for name in ("paddle", "paddleseg", "torch") if name in sys.modules]
    results.append([status, err.getvalue(), loaded])
print(json.dumps(results))
"""

CONFIG = "configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"
INFER = ["infer.py", "--config", "{folder}/deploy.yaml", "--image_path", "{folder}/a.png"]
VAL = ["val.py", "--config", CONFIG, "--model_path", "{folder}/model.pdparams"]
PREDICT = ["predict.py", "--config", CONFIG, "--model_path", "{folder}/model.pdparams"]
CASES = [
    ([*INFER, "--device", "gpu"], "CPU build"),
    ([*INFER, "--use_trt=True"], "--use_trt False"),
    ([*INFER, "--backend", "paddle", "--precision", "int8"], "--precision fp32"),
    ([*INFER, "--backend", "onnx"], "invalid choice"),
    ([*INFER, "--backend", "openvino", "--enable_mkldnn", "True"], "--backend paddle"),
    ([*INFER, "--precision", "fp64"], "invalid choice"),
    ([*INFER, "--use_trt=Yup"], "True or False"),
    ([*INFER, "--batch_size", "0"], "at least 1"),
    ([*INFER, "--batch", "1"], "unrecognized arguments"),
    ([*INFER[:1], "--config", "nowhere/deploy.yaml", *INFER[3:]], "does not exist"),
    ([*INFER[:3], "--image_path", "{folder}/nothing.png"], "does not exist"),
    ([*INFER[:3], "--image_path", "{folder}/empty"], "holds no image"),
    ([*INFER, "--protocol", "ss", "--device", "gpu"], "CPU build"),
    ([*INFER, "--video", "{folder}/a.png"], "not allowed with"),
    ([*INFER[:3]], "--image_path --video --camera"),
    ([*INFER[:3], "--video", "{folder}/nothing.mp4"], "does not exist"),
    ([*INFER[:3], "--video", "{folder}/images.list"], "no video"),
    ([*INFER[:3], "--video", "{folder}/images.list", "--benchmark"], "without --image_path"),
    ([*INFER[:3], "--camera", "-1"], "at least 0"),
    ([*INFER[:3], "--camera", "9999"], "no such camera"),
    ([*INFER, "--show_fps"], "without --video or --camera"),
    ([*VAL, "--device", "gpu"], "CPU build"),
    ([*VAL[:3], "--model_path", "nowhere.pdparams"], "does not exist"),
    ([*VAL, "--protocol", "ss", "--scales", "0.5"], "fixes scales"),
    ([*VAL, "--image_list", "{folder}/images.list"], "no label"),
    ([*VAL, "--opts", "modell.type=X"], "did you mean 'model'"),
    ([*VAL, "--compare", "{folder}/x.json", "{folder}/y.json"], "unrecognized arguments"),
    (["val.py", "--compare", "{folder}/x.json", "{folder}/y.json"], "does not exist"),
    ([*PREDICT, "--image_path", "{folder}/nothing.png"], "does not exist"),
    ([*PREDICT, "--image_path", "{folder}/a.png", "--device", "gpu"], "CPU build"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list:
    folder = tmp_path_factory.mktemp("wrong_use")
    (folder / "model.json").write_text("{}")
    (folder / "model.pdiparams").write_bytes(b"x")
    (folder / "model.pdparams").write_bytes(b"x")
    (folder / "deploy.yaml").write_text("Deploy: {model: model.json, params: model.pdiparams}\n")
    (folder / "a.png").write_bytes(b"x")
    (folder / "images.list").write_text("a.png\n")
    (folder / "empty").mkdir()
    commands = [[part.format(folder=folder) for part in arguments] for arguments, _ in CASES]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: " ".join(CASES[i][0][-2:]))
def test_status_2_one_line_and_no_paddle(index: int, outcomes: list) -> None:
    status, err, loaded = outcomes[index]
    assert status == 2, err
    assert CASES[index][1] in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert loaded == []
