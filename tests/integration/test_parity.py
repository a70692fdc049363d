"""The parity verb on a small network: what is equal passes, what was tampered with fails."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from small_network import CONFIG, write_checkpoint, write_data

from paddleseg_ext.commands import parity as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError

from .browser import count_images


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with data, config, checkpoint and bundle; the working directory."""
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    folder = tmp_path_factory.mktemp("parity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data(folder / "data")
        (folder / "net.yml").write_text(CONFIG)
        config = load_config("net.yml")
        write_checkpoint(config, folder / "model.pdparams")
        export(config, "model.pdparams", ExportOptions(folder / "bundle", onnx=False))
        yield folder


def run(project: Path, name: str, bundle: str = "bundle", *more: str) -> dict:
    """Compare a bundle with its checkpoint; gives results.json, whatever the verdict."""
    given = f"--config net.yml --model_path model.pdparams --bundle {bundle}/deploy.yaml"
    return run_verb(project, name, *given.split(), *more)


def run_verb(project: Path, name: str, *flags: str) -> dict:
    """Run the verb on the three pictures; gives results.json, whatever the verdict."""
    given = [] if "--image_list" in flags else ["--image_list", "data/val.list"]
    try:
        cli.main([*flags, *given, "--save_dir", name])
        failed = False
    except CheckFailed:
        failed = True
    results = json.loads((project / name / "results.json").read_text())
    assert failed == (results["grade"] == "failed")
    return results


QUICK = ("--cpu_threads", "1", "--batch_size", "2")


def recorded(project: Path, bundle: str) -> dict:
    """Stage -> whether the verdict that parity recorded passed; the export records others."""
    content = yaml.safe_load((project / bundle / "deploy.yaml").read_text())
    records = content["Manifest"]["verified"].items()
    return {name: found["passed"] for name, found in records if found["command"] == "parity"}


def test_a_sound_bundle_passes_in_every_way_of_running_it(project):
    results = run(project, "sound")
    assert recorded(project, "bundle") == {"paddle": True, "paddle_onednn": True}
    assert results["grade"] in ("identical", "near-tie")
    graded = {run["name"]: run for run in results["runs"]}
    assert len(graded) == 10
    assert graded["evaluation while training"]["grade"] is None
    assert graded["static"]["grade"] == "identical"
    # Proof that oneDNN was on where asked for, and off where not.
    assert not graded["paddle threads 1 batch 1"]["backend"]["enable_mkldnn"]
    assert graded["paddle_onednn threads 2 batch 2"]["backend"]["enable_mkldnn"]
    # The network is no constant: several classes are predicted.
    predicted = results["reference"]["counts"]["prediction_pixels"]
    assert sum(pixels > 100 for pixels in predicted) >= 3
    suites = ElementTree.parse(project / "sound" / "junit.xml").getroot()
    assert suites[0].attrib | {"time": ""} == {
        "name": "parity", "tests": "10", "failures": "0", "skipped": "1", "errors": "0", "time": "",
    }  # fmt: skip


def tampered(project: Path, name: str) -> Path:
    folder = project / name
    shutil.copytree(project / "bundle", folder)
    return folder


def change_class_bias(params: Path, by: float) -> None:
    """Add to the bias of the first class."""
    from paddleseg_ext.checkpoints.store import read_arrays

    arrays = read_arrays("model.pdparams")
    name = next(n for n in arrays if n.endswith("bias") and arrays[n].shape == (7,))
    content = bytearray(params.read_bytes())
    place = content.index(arrays[name].tobytes())
    content[place : place + 4] = np.float32(arrays[name][0] + by).tobytes()
    params.write_bytes(content)


def test_one_changed_weight_is_caught_by_the_counts(project):
    folder = tampered(project, "one_weight")
    change_class_bias(folder / "model.pdiparams", 1.0)
    results = run(project, "one_weight_results", "one_weight", *QUICK)
    failed = [run for run in results["runs"] if run["grade"] == "failed"]
    assert len(failed) == 3
    assert recorded(project, "one_weight") == {"paddle": False, "paddle_onednn": False}
    for outcome in failed:
        assert outcome["count_differences"]
        assert "the network's output differs" in outcome["summary"]
        assert "equal input" in outcome["summary"]


def test_a_dropped_normalize_is_caught_by_the_counts(project):
    folder = tampered(project, "dropped")
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())
    deploy["Deploy"]["transforms"] = []
    (folder / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    results = run(project, "dropped_results", "dropped", *QUICK)
    failed = [run for run in results["runs"] if run["grade"] == "failed"]
    assert len(failed) == 3
    for outcome in failed:
        assert outcome["count_differences"]
        assert "the input tensor differs by up to" in outcome["summary"]


def test_swapped_channels_are_caught_by_the_counts(project):
    folder = tampered(project, "swapped")
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())
    deploy["Manifest"]["preprocess"]["color_order"] = "BGR"
    (folder / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    results = run(project, "swapped_results", "swapped", "--stages", "static")
    assert results["grade"] == "failed"
    assert results["runs"][1]["count_differences"]


def test_what_a_command_left_is_judged_by_its_maps_and_counts(project):
    from paddleseg_ext.commands import infer

    given = {"config": "bundle/deploy.yaml", "image_path": "data/val.list", "save_dir": "left"}
    given |= {"device": "cpu", "cpu_threads": "1", "print_detail": "False"}
    infer.main([f"--{name}={value}" for name, value in given.items()])
    more = ("--stages", "static", "--results", "infer=left")
    assert run(project, "left_results", "bundle", *more)["grade"] in ("identical", "near-tie")

    shutil.copytree(project / "left", project / "touched")
    path = next((project / "touched" / "label_maps").rglob("1.png"))
    label_map = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(path), (label_map + 1) % 7)
    more = ("--stages", "static", "--results", "infer=touched")
    results = run(project, "touched_results", "bundle", *more)
    graded = {run["name"]: run["grade"] for run in results["runs"]}
    assert graded == {"evaluation while training": None, "infer": "failed", "static": "identical"}

    (project / "touched" / "inference.json").unlink()
    results = run(project, "empty_results", "bundle", *more)
    assert "is expected in 'touched', 0 found" in results["runs"][1]["summary"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "nothing"], "NAME=DIR"),
        (["--results", "a=bundle", "a=bundle"], "'a' is given twice"),
        (["--model_path", "none.pdparams"], "does not exist"),
    ],
)
def test_wrong_use_is_one_clear_line(project, arguments, message):
    given = [
        "--config",
        "net.yml",
        "--model_path",
        "model.pdparams",
        "--image_list",
        "data/val.list",
    ]
    with pytest.raises(UsageError, match=message):
        cli.main([*given, "--bundle", "bundle/deploy.yaml", *arguments])


def unchanged(bundle, reference, folder):
    """In the place of a fault: the sound bundle."""
    return bundle


def test_negative_controls_are_caught_and_a_blind_comparison_fails(project, monkeypatch):
    more = ("--stages", "static", "--negative_controls")
    before = (project / "bundle/deploy.yaml").read_bytes()
    results = run(project, "controls", "bundle", *more)
    assert (project / "bundle/deploy.yaml").read_bytes() == before
    controls = {control["name"]: control for control in results["negative_controls"]}
    assert len(controls) == 5
    assert all(control["caught"] for control in controls.values())
    # Each is taken for what it is.
    assert all(control["cause"].startswith(name) for name, control in controls.items())
    assert "the network's output differs" in controls["one weight changed"]["summary"]
    assert "the input tensor differs" in controls["Normalize dropped"]["summary"]

    monkeypatch.setattr("paddleseg_ext.parity.controls.change_one_weight", unchanged)
    with pytest.raises(CheckFailed, match="not noticed: one weight changed"):
        cli.main(
            "--config net.yml --model_path model.pdparams --bundle bundle/deploy.yaml "
            f"--image_list data/val.list --save_dir blind {' '.join(more)}".split()
        )
    assert json.loads((project / "blind" / "results.json").read_text())["grade"] == "failed"
    page = (project / "blind" / "report.html").read_text()
    assert 'class="answer failed">FAILED: do not ship' in page
    assert "a planted fault went unnoticed (one weight changed)" in page
    suites = ElementTree.parse(project / "blind" / "junit.xml").getroot()
    assert {s.attrib["name"]: s.attrib["failures"] for s in suites} == {
        "parity": "0",
        "negative controls": "1",
    }


def test_a_fault_that_is_taken_for_another_is_not_caught(project, monkeypatch):
    from paddleseg_ext.parity import controls

    monkeypatch.setattr(controls, "swap_channels", controls.drop_normalize)
    results = run(project, "misnamed", "bundle", "--stages", "static", "--negative_controls")
    swapped = next(c for c in results["negative_controls"] if c["name"] == "red and blue swapped")
    assert swapped["caught"] is False
    assert swapped["cause"] == "Normalize dropped"
    assert results["grade"] == "failed"


def test_labels_read_one_off_are_called_so(project):
    """A command scored with a table that is off by one; its label maps are right."""
    from paddleseg_ext.commands import infer
    from paddleseg_ext.images.labels import decode_label
    from paddleseg_ext.parity.controls import shift_labels

    given = {"config": "bundle/deploy.yaml", "image_path": "data/val.list", "save_dir": "shifted"}
    given |= {"device": "cpu", "cpu_threads": "1", "print_detail": "False"}
    read = "paddleseg_ext.evaluation.evaluator.decode_label"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, lambda path, table: decode_label(path, shift_labels(table, path)))
        infer.main([f"--{name}={value}" for name, value in given.items()])
    more = ("--stages", "eager", "--results", "infer=shifted")
    results = run(project, "shifted_results", "bundle", *more)
    assert results["runs"][1]["divergence"]["cause"] == "label table shifted by one"
    assert results["runs"][1]["different_pixels"] == 0


def test_a_bundle_alone_is_compared_in_the_default_stages(project):
    results = run_verb(project, "alone", "--bundle", "bundle/deploy.yaml", *QUICK)
    assert results["reference"]["stage"] == "static"
    assert [run["stage"] for run in results["runs"]] == ["paddle", "paddle_onednn"]
    assert results["grade"] in ("identical", "near-tie")


def test_the_bundle_of_another_input_is_a_verdict_in_one_line(project):
    """A graph of one channel: each runtime refuses in its own words."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = write_onnx(project / "gray.onnx")
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "C"
    weights = np.ones((7, 1, 3, 3), np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, str(path))
    given = ["--config", "net.yml", "--model_path", "model.pdparams", "--onnx", "gray.onnx"]
    results = run_verb(project, "gray", *given, "--stages", "onnxruntime", *QUICK)
    summary = results["runs"][1]["summary"]
    assert summary.startswith("failed: gray.onnx: ONNX Runtime cannot run it")
    assert "\n" not in summary


def test_a_fault_that_a_one_sided_network_hides_is_neither_passed_nor_failed(project, monkeypatch):
    monkeypatch.setattr("paddleseg_ext.parity.reference.ONE_SIDED", 0.0)
    monkeypatch.setattr("paddleseg_ext.parity.controls.change_one_weight", unchanged)
    results = run(project, "hidden", "bundle", "--stages", "static", "--negative_controls")
    caught = {control["name"]: control["caught"] for control in results["negative_controls"]}
    assert caught.pop("one weight changed") is None
    assert all(caught.values())


@pytest.mark.parametrize(
    "output_op",
    [
        "argmax",
        pytest.param("none", marks=pytest.mark.slow),
        pytest.param("softmax", marks=pytest.mark.slow),
    ],
)
def test_every_output_agrees_where_preprocessing_resizes(project, output_op):
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    resized = "transforms:\n    - {type: Resize, target_size: [80, 48]}"
    (project / "resized.yml").write_text(CONFIG.replace("transforms:", resized))
    config = load_config("resized.yml")
    options = ExportOptions(project / output_op, output_op=output_op)
    export(config, "model.pdparams", options)
    more = ("--stages", "static", "paddle_onednn", *QUICK, "--config", "resized.yml")
    results = run(project, f"{output_op}_results", output_op, *more)
    assert [r["grade"] for r in results["runs"][1:]] in (
        ["identical", "identical"],
        ["identical", "near-tie"],
    )


def write_onnx(path: Path) -> Path:
    """A convolution of seven classes that keeps the size."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(3).standard_normal((7, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("x", kind, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", kind, ["N", 7, "H", "W"])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.mark.slow  # two exports with their checks
def test_the_first_layer_that_differs_is_named(project):
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions
    from tests.planted_faults import faults_of

    onnx = pytest.importorskip("onnx")
    for package in ("paddle2onnx", "onnxruntime"):
        pytest.importorskip(package)
    folder = project / "faulty"
    export(load_config("net.yml"), "model.pdparams", ExportOptions(folder, onnx=True))
    fault = next(
        each
        for each in faults_of(onnx.load(str(folder / "model.onnx")))
        if each.name == "Conv weight"
    )
    onnx.save(fault.model, str(folder / "model.onnx"))
    results = run(project, "faulty_results", "faulty", "--stages", "onnxruntime", *QUICK)
    layer = results["first_divergence"]["layer"]
    assert (layer["output"], layer["kind"]) == (fault.output, "Conv")
    page = (project / "faulty_results" / "report.html").read_text()
    assert "First layer to differ:" in page and "its weights differ in" in page


@pytest.mark.slow  # two exports with their checks
def test_a_layer_is_named_under_a_protocol_that_resizes(project):
    """In Paddle's graph, by the image that the protocol makes."""
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.inference.bundle import read_bundle
    from paddleseg_ext.parity.weights import change_tensors

    content = yaml.safe_load((project / "net.yml").read_text())
    content["test_config"] = {"protocol": "scale_0.75"}
    (project / "scaled.yml").write_text(yaml.safe_dump(content))
    folder = project / "scaled"
    export(load_config("scaled.yml"), "model.pdparams", ExportOptions(folder, onnx=False))
    changed = []

    def change(tensor):
        if tensor.ndim != 1 or tensor.size < 2 or changed:
            return None
        changed.append(tensor.size)
        return tensor + np.eye(1, tensor.size, dtype=np.float32)[0] * 5

    change_tensors(read_bundle(folder / "deploy.yaml"), change)
    more = ("--stages", "paddle", *QUICK, "--config", "scaled.yml")
    found = run(project, "scaled_results", "scaled", *more)["first_divergence"]
    assert changed and found["layer"]["number"] < found["layer"]["total"]
    assert f"differ in 1 of {changed[0]} values" in found["layer"]["text"]


def test_an_onnx_graph_from_elsewhere_needs_no_checkpoint(project):
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    path = write_onnx(project / "elsewhere.onnx")
    flags = ["--onnx", path.name, "--config", "net.yml", "--stages", "onnxruntime,openvino"]
    results = run_verb(project, "elsewhere", *flags, *QUICK, "--negative_controls")
    assert results["reference"]["stage"] == "onnxruntime"
    assert [run["stage"] for run in results["runs"]] == ["openvino"]
    assert results["grade"] in ("identical", "near-tie")
    caught = {control["name"]: control["caught"] for control in results["negative_controls"]}
    assert len(caught) == 5
    assert all(caught.values()), caught


def test_a_bundle_exported_from_older_weights_is_called_stale(project, monkeypatch):
    """The bundle of iteration 100 beside the checkpoint of iteration 200."""
    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import load_into, save_weights
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.models.build import build_model

    config = load_config("net.yml")
    model = build_model(config, 7)
    load_into(model, "model.pdparams")
    generator = np.random.default_rng(0)
    for parameter in model.parameters():
        step = 1 + 0.03 * generator.standard_normal(parameter.shape).astype(np.float32)
        parameter.set_value(parameter.numpy() * step)
    save_weights(model, Path("older.pdparams"), CheckpointManifest(iteration=100))
    monkeypatch.setattr(
        "paddleseg_ext.export.self_check.check_bundle", lambda *arguments, **options: {}
    )  # for speed
    options = ExportOptions(project / "older", onnx=False)
    export(config, "older.pdparams", options)
    given = "--config net.yml --model_path model.pdparams --bundle older/deploy.yaml"
    with pytest.raises(CheckFailed, match=r"stale checkpoint: .*iteration 100.*iteration 0"):
        cli.main(
            [*given.split(), "--stages=static", "--image_list=data/val.list", "--save_dir=stale"]
        )
    results = json.loads((project / "stale" / "results.json").read_text())
    assert results["first_divergence"]["place"] == "logits"
    assert results["first_divergence"]["cause"].startswith("stale checkpoint")


def test_onednn_that_is_off_underneath_fails_though_the_answer_is_right(project, monkeypatch):
    from paddleseg_ext.inference.engines import paddle_inference

    build_config = paddle_inference.build_config

    def without_onednn(*arguments):
        config = build_config(*arguments)
        config.disable_mkldnn()
        return config

    monkeypatch.setattr(paddle_inference, "build_config", without_onednn)
    results = run(project, "off", "bundle", "--stages", "paddle_onednn", *QUICK)
    outcome = results["runs"][1]
    assert outcome["grade"] == "failed"
    assert outcome["different_pixels"] == 0
    assert "it did not run as asked: oneDNN was asked for" in outcome["summary"]


def test_an_int8_graph_without_int8_nodes_fails_though_the_answer_is_right(project):
    pytest.importorskip("onnxruntime")
    folder = tampered(project, "sham")
    write_onnx(folder / "model.onnx")
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())
    deploy["Manifest"]["graphs"] = {
        name: {"file": "model.onnx", "opset": 17} for name in ("onnx", "onnx_int8")
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    flags = ["--bundle", "sham/deploy.yaml", "--stages", "onnxruntime,onnxruntime_int8"]
    outcome = run_verb(project, "sham_results", *flags, *QUICK)["runs"][0]
    assert outcome["grade"] == "failed"
    assert outcome["different_pixels"] == 0
    assert "it did not run as asked: INT8 was asked for" in outcome["summary"]
    # The reference is held to it, too.
    flags[-1] = "onnxruntime_int8,onnxruntime"
    fallen, agreeing = run_verb(project, "sham_reference", *flags, *QUICK)["runs"]
    assert fallen["name"] == "onnxruntime_int8 (reference)"
    assert "it did not run as asked: INT8 was asked for" in fallen["summary"]
    assert agreeing["grade"] == "identical"


def test_a_graph_of_paddle_2_6_passes_and_its_wrong_pass_is_caught(project):
    legacy = Path(__file__).resolve().parents[1] / "data" / "paddle26_gate"
    (project / "gate.yml").write_text(CONFIG.replace("num_classes: 7", "num_classes: 4"))
    flags = ["--bundle", str(legacy / "deploy.yaml"), "--config", "gate.yml"]
    flags += ["--stages", "paddle,paddle_onednn", "--image_list", "data/0.png"]
    results = run_verb(project, "gate", *flags, *QUICK, "--negative_controls")
    assert results["grade"] in ("identical", "near-tie")
    controls = {control["name"]: control for control in results["negative_controls"]}
    wrong = controls["wrong oneDNN pass or kernel"]
    assert wrong["caught"]
    assert "with oneDNN off the same graph gives the reference's output" in wrong["cause"]


def test_a_run_within_the_users_budget_passes_and_says_how_far_it_is(project, monkeypatch):
    folder = tampered(project, "budgeted")
    change_class_bias(folder / "model.pdiparams", 0.02)
    more = ("--stages", "paddle", "--cpu_threads", "1", "--batch_size", "1")
    budget = "{different_pixels: 0.2, mean_iou: 0.1, class_iou: 0.2}"
    (project / "budgets.yml").write_text(f"fp32: {budget}")
    more = (*more, "--budgets", "budgets.yml")
    # A weight that is not the checkpoint's is no rounding, whatever the manifest and the budget.
    results = run(project, "changed", "budgeted", *more)
    assert results["grade"] == "failed"
    assert results["faults"][0].startswith("one weight changed: 1 of ")
    monkeypatch.setattr("paddleseg_ext.parity.checkpoint.Checkpoint.why_changed", lambda *_: "")
    results = run(project, "wide", "budgeted", *more)
    assert results["grade"] == "within-budget"
    assert results["budgets"]["fp32"]["mean_iou"] == 0.1
    outcome = results["runs"][1]
    assert outcome["divergence"]["place"] == "logits"
    assert outcome["worst_images"][0]["decided_pixels"] > 0
    assert 0 < outcome["difference"]["different_pixels"] <= 0.2


def test_the_page_opens_in_a_browser_and_shows_what_differs(project):
    run(project, "page", "bundle", "--stages", "static", "--negative_controls")
    page = (project / "page" / "report.html").read_text()
    assert "no pixel differs" in page
    assert "PASSED: may be shipped" in page and "5 of 5 planted faults were noticed" in page
    assert "labelled pixels of a judged class" in page
    assert "stale checkpoint" in page
    assert 'src="http' not in page

    folder = tampered(project, "shown")
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())
    deploy["Deploy"]["transforms"] = []
    (folder / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    run(project, "shown_results", "shown", "--stages", "static")
    page = (project / "shown_results" / "report.html").read_text()
    assert "FAILED: do not ship" in page and "Looks like: Normalize dropped" in page
    # Two images, five pictures each: image, label, reference, run, difference.
    assert count_images(page, project) == (10, 10)


def test_from_python_as_the_verb_does_it(project):
    from paddleseg_ext.config import load_config
    from paddleseg_ext.inference.bundle import read_bundle
    from paddleseg_ext.parity.parity_run import ParityOptions, compare_bundle

    options = ParityOptions(
        "data/val.list", "model.pdparams", ["static", "paddle"], cpu_threads=[1], batch_size=[2]
    )
    before = (project / "bundle/deploy.yaml").read_bytes()
    result = compare_bundle(read_bundle("bundle"), options, load_config("net.yml"))
    result.check()
    assert (project / "bundle/deploy.yaml").read_bytes() == before
    assert [outcome.name for outcome in result.outcomes[1:]] == [
        "static",
        "paddle threads 1 batch 2",
    ]
    assert result.outcomes[2].report.cpu_threads == 1
    assert result.outcomes[2].fullest_batch == 2
    flags = ["--stages", "static,paddle", "--cpu_threads", "1", "--batch_size", "2"]
    shown = run(project, "verb", "bundle", *flags)
    for each in (result.content, shown):
        for outcome in each["runs"]:
            del outcome["seconds"]
        each["source"].pop("bundle")  # a folder, and the file in it
    assert json.loads(json.dumps(result.content)) == shown


@pytest.mark.slow
def test_int8_of_another_checkpoint_fails_within_its_budget(project):
    """The step to the next checkpoint is smaller than what INT8 may differ by."""
    for package in ("paddle2onnx", "onnxruntime"):
        pytest.importorskip(package)
    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import load_into, save_weights
    from paddleseg_ext.commands import quantize as quantization
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.models.build import build_model

    config = load_config("net.yml")
    options = ExportOptions(project / "float", onnx=True)
    export(config, "model.pdparams", options)
    # Random weights are not made for INT8: the budget is as wide as that needs.
    (project / "int8.yml").write_text(
        "int8: {different_pixels: 0.12, mean_iou: 0.1, class_iou: 0.2}"
    )
    given = "--config float/deploy.yaml --data data/val.list --save_dir int8 --budgets int8.yml"
    quantization.main(f"{given} --keep_float 0 --sensitivity False".split())
    model = build_model(config, 7)
    load_into(model, "model.pdparams")
    for parameter in model.parameters():
        parameter.set_value(parameter.numpy() * np.float32(1.001))
    save_weights(model, Path("next.pdparams"), CheckpointManifest(iteration=1))

    flags = ["--config", "net.yml", "--bundle", "int8/deploy.yaml", "--budgets", "int8.yml"]
    flags += ["--stages", "onnxruntime_int8", *QUICK, "--negative_controls"]
    results = run_verb(project, "int8_sound", *flags, "--model_path", "model.pdparams")
    assert results["runs"][1]["grade"] == "within-budget"
    controls = {control["title"]: control for control in results["negative_controls"]}
    assert len(controls) == 9
    assert all(control["caught"] for control in controls.values())
    stale = controls["stale checkpoint, onnxruntime_int8"]
    assert stale["cause"].startswith("stale checkpoint")
    results = run_verb(project, "int8_stale", *flags[:-1], "--model_path", "next.pdparams")
    assert results["runs"][1]["grade"] == "failed"
    assert results["runs"][1]["summary"].startswith("failed: stale checkpoint: int8/deploy.yaml")


def test_quick_says_that_it_is(project, capsys):
    results = run(project, "quick", "bundle", "--stages", "paddle", "--quick")
    assert [r["name"] for r in results["runs"][-1:]] == ["paddle threads 2 batch 1"]
    assert results["num_images"] == 2
    said = "quick: 2 of 3 images, 2 threads and batches of 1 only"
    assert said in results["quick"] and said in capsys.readouterr().out
    assert said in (project / "quick" / "report.html").read_text()
