"""Bundles: what is written is read back, and what is wrong is named."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference import bundle as bundle_module
from paddleseg_ext.inference.bundle import (
    Bundle,
    bundle_for_onnx,
    read_bundle,
    record_verified,
    write_deploy_yaml,
)
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.verified import Verified

TRANSFORMS = [
    {"type": "Resize", "target_size": [64, 32]},
    {"type": "Normalize", "mean": [0.1, 0.2, 0.3], "std": [0.2, 0.2, 0.2]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.pdiparams").write_bytes(b"weights")
    manifest = Manifest(
        network="BiSeNetV1",
        class_table=generic_table(5),
        checkpoint={"path": "best_model/model.pdparams", "sha256": "ab" * 32, "iteration": 40},
        variables_loaded=7,
        variables_total=7,
        versions={"paddle": "3.2.2"},
    )
    write_deploy_yaml(tmp_path, TRANSFORMS, [-1, 3, -1, -1], "none", manifest)
    return tmp_path


def edit(folder: Path, change) -> Path:  # type: ignore[no-untyped-def]
    path = folder / "deploy.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_what_is_written_is_read_back(folder: Path, capsys: pytest.CaptureFixture) -> None:
    bundle = read_bundle(folder / "deploy.yaml")
    assert bundle.model_file == folder / "model.json" and not bundle.is_legacy
    assert bundle.params_file == folder / "model.pdiparams"
    assert bundle.transforms == TRANSFORMS
    assert bundle.input_shape == [-1, 3, -1, -1]
    assert bundle.output_op == "none"
    assert bundle.manifest is not None
    assert bundle.manifest.variables_loaded == bundle.manifest.variables_total == 7
    assert bundle.manifest.checkpoint["iteration"] == 40
    assert bundle.manifest.class_table.class_names == generic_table(5).class_names
    np.testing.assert_array_equal(bundle.manifest.class_table.palette, generic_table(5).palette)
    assert set(bundle.manifest.files) == {"model.json", "model.pdiparams"}
    assert read_bundle(folder).deploy_file == bundle.deploy_file
    assert "WARNING" not in capsys.readouterr().out


def test_a_changed_file_is_a_warning(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "model.pdiparams").write_bytes(b"heights")
    read_bundle(folder)
    told = capsys.readouterr().out
    assert "model.pdiparams was changed after the export" in told
    assert "whose verdicts and calibration are of another file; export again" in told


def test_only_the_files_of_the_graph_that_runs_are_hashed(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.json", "model.pdiparams", "model.onnx", "words.txt"):
        (tmp_path / name).write_bytes(b"weights")
    manifest = Manifest("Network", generic_table(2))
    write_deploy_yaml(tmp_path, [], [-1, 3, -1, -1], "none", manifest)
    for name in ("model.pdiparams", "model.onnx", "words.txt"):
        (tmp_path / name).write_bytes(b"heights")
    hashed: list[str] = []
    monkeypatch.setattr(
        bundle_module, "sha256_of", lambda file: hashed.append(file.name) or sha256_of(file)
    )
    bundle = read_bundle(tmp_path, hashed=False)
    assert hashed == []
    bundle.warn_of_changes("onnx")
    assert sorted(hashed) == ["model.onnx", "words.txt"]
    said = capsys.readouterr().out
    assert said.count("was changed") == 2 and "pdiparams" not in said
    bundle.warn_of_changes()
    assert capsys.readouterr().out.count("was changed") == 3


def test_a_file_cut_short_is_refused(folder: Path) -> None:
    (folder / "model.pdiparams").write_bytes(b"weight")
    with pytest.raises(UsageError, match="7 bytes are expected, 6 are there"):
        read_bundle(folder)


def test_paddleseg_on_paddle_3_names_a_file_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    def as_paddleseg(content: dict) -> None:
        del content["Manifest"]
        content["Deploy"]["model"] = "model.pdmodel"

    bundle = read_bundle(edit(folder, as_paddleseg))
    assert bundle.model_file.name == "model.json"
    assert bundle.manifest is None and bundle.color_order == "RGB"
    assert "using model.json" in capsys.readouterr().out


def test_no_transforms_is_an_empty_list(folder: Path) -> None:
    assert read_bundle(edit(folder, lambda c: c["Deploy"].update(transforms=None))).transforms == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["Deploy"].update(modell="x"), "did you mean 'model'"),
        (lambda c: c["Manifest"].update(version={}), "did you mean 'versions'"),
        (lambda c: c["Manifest"]["preprocess"].update(colour_order="RGB"), "'color_order'"),
        (lambda c: c.update(Deplo={}), "did you mean 'Deploy'"),
        (lambda c: c.pop("Deploy"), "section 'Deploy:'"),
        (lambda c: (c.clear(), c.update(model={})), "deploy.yaml, which export_model.py writes"),
        (lambda c: c["Deploy"].update(output_op="armax"), "did you mean 'argmax'"),
        (lambda c: c["Deploy"].update(output_op="argmax"), "differ; export the model again"),
        (lambda c: c["Deploy"].update(params="other.pdiparams"), "does not exist"),
        (lambda c: c["Deploy"].update(transforms="Normalize"), "type: NAME"),
        (lambda c: c["Manifest"].update(format=2), "format 1 is expected, got 2"),
        (lambda c: c["Manifest"].update(format=2, of_tomorrow={}), "format 1 is expected, got 2"),
        (lambda c: c["Deploy"].update(input_shape="512x512"), "'input_shape' must be a list"),
        (lambda c: c["Manifest"].pop("postprocess"), "'postprocess' is missing"),
        (lambda c: c["Manifest"]["postprocess"].update(classes={"names": []}), "classes"),
    ],
)
def test_wrong_contents(folder: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError) as caught:
        read_bundle(edit(folder, change))
    assert message in str(caught.value)


def test_files_that_are_not_bundles(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_bundle(tmp_path / "deploy.yaml")
    (tmp_path / "deploy.yaml").write_text("Deploy: [1, 2")
    with pytest.raises(UsageError, match="line 1: expected"):
        read_bundle(tmp_path)
    (tmp_path / "deploy.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UsageError, match="line 1: could not determine a constructor"):
        read_bundle(tmp_path)
    with pytest.raises(UsageError, match="are expected"):
        write_deploy_yaml(tmp_path, [], [], "none", Manifest("X", generic_table(2)))


def test_a_missing_graph(folder: Path) -> None:
    (folder / "model.json").unlink()
    with pytest.raises(UsageError, match=r"model\.json' does not exist"):
        read_bundle(folder)


def test_verdicts_are_added_and_kept(folder: Path) -> None:
    record_verified(read_bundle(folder), {"onnxruntime": Verified("identical", True)})
    record_verified(read_bundle(folder), {"openvino": Verified("failed", False)})
    bundle = read_bundle(folder)
    assert bundle.manifest is not None
    assert bundle.verified["onnxruntime"].passed is True
    assert bundle.verified["openvino"].grade == "failed"
    assert bundle.transforms == TRANSFORMS


def test_verdicts_need_a_manifest(folder: Path) -> None:
    bundle = read_bundle(edit(folder, lambda content: content.pop("Manifest")))
    with pytest.raises(UsageError, match="no Manifest"):
        record_verified(bundle, {})


def test_a_deploy_yaml_may_name_an_onnx_graph(folder: Path) -> None:
    (folder / "elsewhere.onnx").write_bytes(b"graph")

    def name_it(content: dict) -> None:
        del content["Manifest"], content["Deploy"]["params"]
        content["Deploy"]["model"] = "elsewhere.onnx"

    bundle = read_bundle(edit(folder, name_it))
    assert bundle.is_onnx and bundle.params_file is None
    assert bundle.onnx_file() == folder / "elsewhere.onnx"
    assert bundle.files == [folder / "deploy.yaml", folder / "elsewhere.onnx"]


def test_an_onnx_file_is_a_bundle(folder: Path) -> None:
    path = folder / "elsewhere.onnx"
    path.write_bytes(b"graph")
    bundle = bundle_for_onnx(path, TRANSFORMS, "argmax")
    assert bundle.onnx_file() == path and bundle.transforms == TRANSFORMS
    with pytest.raises(UsageError, match=r"suffix \.onnx"):
        bundle_for_onnx(folder / "model.json")
    with pytest.raises(UsageError, match="has no int8 ONNX graph"):
        bundle.onnx_file("int8")


def test_the_type_of_the_input(folder: Path) -> None:
    path = edit(folder, lambda content: content["Deploy"].update(input_dtype="uint8"))
    assert read_bundle(path).input_dtype == "uint8"
    path = edit(folder, lambda content: content["Deploy"].update(input_dtype="uint9"))
    with pytest.raises(UsageError, match=r"input_dtype: unknown 'uint9' \(did you mean 'uint8'"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("identical", r"Manifest\.verified\.openvino: a section is expected"),
        ({"passed": True}, "'grade' is missing"),
        (
            {"grade": "identical", "passed": True, "ratio": "fast"},
            "'ratio' must be a number of at least 0",
        ),
    ],
)
def test_a_record_of_the_wrong_kind(folder: Path, record: object, message: str) -> None:
    path = edit(folder, lambda content: content["Manifest"].update(verified={"openvino": record}))
    with pytest.raises(UsageError, match=message):
        read_bundle(path)


def test_a_record_of_a_later_release_is_read(folder: Path) -> None:
    record = Verified("identical", True, 3, 8, "tune").to_dict() | {"of_tomorrow": 1}
    path = edit(folder, lambda content: content["Manifest"].update(verified={"openvino": record}))
    assert read_bundle(path).verified["openvino"] == Verified("identical", True, 3, 8, "tune")


WRONG_VALUES: list = [
    None, 5, -1, 0.5, float("nan"), float("inf"), 10**30, True, "word", "", "a/b", "..", "\x07", [],
    [1], [[1]], {}, {"a": 1}, [None, 3, -5, 10**9], "x" * 10_000,
]  # fmt: skip


def places(content: object, at: tuple = ()) -> list[tuple]:
    """Every key and the first item of every list."""
    if isinstance(content, dict):
        inner = [(key, value) for key, value in content.items()]
    else:
        inner = [(0, content[0])] if isinstance(content, list) and content else []
    return [p for key, value in inner for p in ((*at, key), *places(value, (*at, key)))]


def test_no_wrong_value_of_any_key_ends_in_a_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused in one line, or harmless: all that is read can be shown."""
    records = {"onnxruntime": Verified("identical", True, 3, 8, "tune", "1.2", "cpu", 2, 1.5)}
    record_verified(read_bundle(folder), records)
    path = folder / "deploy.yaml"
    whole = yaml.safe_load(path.read_text())
    whole["Manifest"]["graphs"] = {"onnx": {"file": "model.json", "opset": 17}}
    whole["Manifest"]["cost"] = {"parameters": 3, "multiply_adds": 5, "input_shape": [1, 3, 8, 8]}
    num_refused = 0
    for place in places(whole):
        for wrong in WRONG_VALUES:
            content = at = copy.deepcopy(whole)
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = wrong
            monkeypatch.setattr(bundle_module, "read_sections", lambda *_: content)  # noqa: B023
            try:
                bundle = read_bundle(path)
                bundle.preprocess().network_hw((48, 64))
                bundle.postprocess()
                json.dumps([manifest_values(bundle), bundle.input_shape, bundle.transforms])
            except UsageError as error:
                assert "\n" not in str(error) and len(str(error)) < 1500, (place, wrong)
                num_refused += 1
            except Exception as error:
                raise AssertionError(f"{place} = {str(wrong)[:50]}: {str(error)[:200]}") from None
    assert num_refused > 800


def manifest_values(bundle: Bundle) -> list:
    assert bundle.manifest is not None
    values = {
        k: v for k, v in vars(bundle.manifest).items() if k not in ("class_table", "verified")
    }
    records = {name: record.to_dict() for name, record in bundle.manifest.verified.items()}
    return [values, records, bundle.manifest.class_table.to_dict()]


@pytest.mark.parametrize(
    "name", ["../id_secret", "/etc/hostname", "a/b", "a\\b", "..", "", "a\n", "\ud800", 5]
)
@pytest.mark.parametrize("place", ["model", "params", "files", "graph"])
def test_names_are_plain_file_names(folder: Path, place: str, name: object) -> None:
    def name_it(content: dict) -> None:
        manifest = content["Manifest"]
        if place == "files":
            manifest["files"][name] = "0"
        elif place == "graph":
            manifest["graphs"] = {"onnx": {"file": name, "opset": 17}}
        else:
            content["Deploy"][place] = name

    with pytest.raises(UsageError, match=r"deploy\.yaml"):
        read_bundle(edit(folder, name_it))


def test_a_link_out_of_the_bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """To the manifest's own content it is a file of the bundle, as in a cache of downloads."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "blob"
    (folder / "model.pdiparams").rename(elsewhere)
    (folder / "model.pdiparams").symlink_to(elsewhere)
    assert read_bundle(folder).params_file == folder / "model.pdiparams"
    elsewhere.write_bytes(b"a secret key of mine")
    with pytest.raises(UsageError, match=r"model\.pdiparams: .* a link to another one outside"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "letter", ["\ud800", "\x1b", "\n", "\u2028", "\x00", "\x85"], ids=lambda letter: ascii(letter)
)
@pytest.mark.parametrize("place", ["class", "network", "version"])
def test_names_can_be_shown_everywhere(folder: Path, place: str, letter: str) -> None:
    def name_it(content: dict) -> None:
        manifest = content["Manifest"]
        if place == "class":
            manifest["postprocess"]["classes"]["class_names"][1] = f"a{letter}b"
        elif place == "network":
            manifest["network"] = f"a{letter}b"
        else:
            manifest["versions"]["paddle"] = f"a{letter}b"

    with pytest.raises(UsageError, match="letter"):
        read_bundle(edit(folder, name_it))


def test_names_in_every_script_are_names(folder: Path) -> None:
    names = ["Straße", "道路", "सड़क", "👩\u200d🚒", "a\u00a0b"]

    def name_them(content: dict) -> None:
        content["Manifest"]["postprocess"]["classes"]["class_names"] = names

    manifest = read_bundle(edit(folder, name_them)).manifest
    assert manifest is not None and list(manifest.class_table.class_names) == names


def test_a_bundle_of_a_later_release(folder: Path) -> None:
    """The format comes before the keys, of which that release may have new ones."""

    def of_tomorrow(content: dict) -> None:
        content["Manifest"] |= {"format": 2, "new": 1}
        content["Deploy"]["new"] = 1
        content["New"] = {}

    with pytest.raises(UsageError, match="format 1 is expected, got 2: a later release"):
        read_bundle(edit(folder, of_tomorrow))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("model.pdparams", b"\x80\x04}\x94.", "a checkpoint"),
        ("model.pth", b"PK\x03\x04", "a zip file"),
        ("model.pdiparams", b"\0\0\0\0", "the weights of an exported graph"),
        ("model.json", b"{}", "a JSON file"),
        ("model.onnx", b"\x08\x07", "an ONNX graph"),
        ("x.jpg", b"\xff\xd8\xff\xe0", "an image"),
    ],
)
def test_another_file_in_place_of_the_bundle(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"deploy.yaml, which export_model.py .* this is {kind}"):
        read_bundle(tmp_path / name)
