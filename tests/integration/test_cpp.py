"""The C++ program against Python: label maps to the byte, counts, refusals, parity.

It is built once with `make cpp`, or named in PADDLESEG_EXT_SEGMENT; without it these tests skip.
"""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from small_network import CONFIG, write_checkpoint, write_data

from paddleseg_ext.commands import parity as cli
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.yml import dump_yaml
from paddleseg_ext.config import load_config
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.video import open_video
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.outputs import CONFIDENCE_MEANS
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.video import VideoSettings
from paddleseg_ext.inference.video_files import CODECS
from paddleseg_ext.inference.video_run import run_video
from paddleseg_ext.parity.producers import find_program
from paddleseg_ext.scoring.protocols import PROTOCOLS

PROJECT = Path(__file__).resolve().parents[2]
TINY = PROJECT / "deploy" / "cpp" / "tests" / "bundle"
RESIZES = [
    [{"type": "Resize", "target_size": [96, 64], "interp": word}]
    for word in ("LINEAR", "NEAREST", "AREA", "LANCZOS4", "PILLOW_LINEAR")
]
GEOMETRIES = [
    *RESIZES,
    [{"type": "Resize", "target_size": [64, 96], "keep_ratio": True, "size_divisor": 32}],
    [{"type": "ResizeByShort", "short_size": 40, "max_size": 100}],
    [{"type": "ResizeByLong", "long_size": 61}, {"type": "Padding", "target_size": [96, 96]}],
    [{"type": "LimitLong", "max_long": 90, "min_long": 64}],
    [{"type": "Padding", "target_size": [224, 160], "im_padding_value": [1, 2, 3]}],
    [],
]


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return find_program()
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several sizes and formats without a loss."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(1)
    for number, (height, width) in enumerate([(64, 96), (75, 110), (33, 47), (120, 90)]):
        coarse = generator.integers(0, 256, (height // 5, width // 5, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.{('png', 'bmp', 'ppm', 'png')[number]}"), picture)
    return folder


def segment(program: Path, *flags: object) -> subprocess.CompletedProcess:
    command = [str(program), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)


def bundle_with(folder: Path, transforms: list, **deploy: object) -> Path:
    """A copy of the tests' bundle with other transforms."""
    shutil.copytree(TINY, folder)
    content = yaml.safe_load((folder / "deploy.yaml").read_text())
    content["Deploy"] |= {"transforms": [*transforms, {"type": "Normalize"}], **deploy}
    (folder / "deploy.yaml").write_text(dump_yaml(content))
    return folder


def label_maps(folder: Path) -> dict[str, bytes]:
    maps = (folder / "label_maps").rglob("*.png")
    return {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tobytes() for path in maps}


@pytest.mark.parametrize("transforms", GEOMETRIES, ids=lambda t: dump_yaml(t)[:60])
def test_label_maps_are_those_of_python(program, images, tmp_path, transforms):
    pytest.importorskip("openvino")
    bundle = bundle_with(tmp_path / "bundle", transforms)
    out = tmp_path / "cpp"
    done = segment(
        program,
        *("--config", bundle, "--image_path", images, "--save_dir", out, "--batch_size", 2),
    )
    assert done.returncode == 0, done.stderr
    assert_maps_of(Predictor.open(bundle, "openvino"), images, out)


def assert_maps_of(predictor: Predictor, images: Path, out: Path) -> None:
    """Raises AssertionError where a label map of the program is not that of the predictor."""
    for path in images.iterdir():
        found = cv2.imread(str(out / f"label_maps/{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        # A palette image is read as its colours; the tests' palette is one of distinct greys.
        expected = predictor(path).label_map
        colours = predictor.class_table.full_palette[expected][:, :, ::-1]
        assert np.array_equal(found, colours), path


def bundle_of_logits(folder: Path, transforms: list) -> Path:
    """A copy of the tests' bundle whose logits count as those at the input's size."""
    bundle_with(folder, transforms)
    deploy = folder / "deploy.yaml"
    deploy.write_text(deploy.read_text().replace("upsampling: half_pixel", "upsampling: graph"))
    return folder


@pytest.mark.parametrize(
    ("protocol", "transforms"),
    [
        ("ss", []),
        ("ss", [{"type": "ResizeByShort", "short_size": 40}]),
        ("ss", [{"type": "ResizeByLong", "long_size": 61}]),
        ("ss", [{"type": "LimitLong", "max_long": 90, "min_long": 64}]),
        ("scale_0.75", []),
    ],
    ids=str,
)
def test_label_maps_by_a_protocol_are_those_of_python(
    program, images, tmp_path, protocol, transforms
):
    pytest.importorskip("openvino")
    bundle, out = bundle_of_logits(tmp_path / "bundle", transforms), tmp_path / "cpp"
    given = ("--config", bundle, "--image_path", images, "--protocol", protocol)
    done = segment(program, *given, "--save_dir", out, "--batch_size", 2)
    assert done.returncode == 0, done.stderr
    predictor = by_protocol(Predictor.open(bundle, "openvino"), PROTOCOLS[protocol])
    assert_maps_of(predictor, images, out)


@pytest.mark.parametrize(
    ("protocol", "transform"),
    [
        ("ss", {"type": "Resize", "target_size": [96, 64]}),
        ("ss", {"type": "Padding", "target_size": [224, 160]}),
        ("scale_0.75", {"type": "ResizeByLong", "long_size": 61}),
    ],
    ids=str,
)
def test_a_protocol_of_full_size_is_refused_after_other_resizes(
    program, images, tmp_path, protocol, transform
):
    bundle = bundle_of_logits(tmp_path / "bundle", [transform])
    given = ("--config", bundle, "--image_path", images, "--protocol", protocol)
    done = segment(program, *given, "--save_dir", tmp_path / "out")
    assert done.returncode == 2
    assert "starts from the image at its own size" in done.stderr
    assert not (tmp_path / "out").exists()


def test_dense_and_sparse_are_equal(program, images, tmp_path):
    bundle = bundle_with(tmp_path / "bundle", RESIZES[0])
    for name, more in (("sparse", ()), ("dense", ("--dense",))):
        out = tmp_path / name
        done = segment(
            program, "--config", bundle, "--image_path", images, "--save_dir", out, *more
        )
        assert done.returncode == 0, done.stderr
    assert label_maps(tmp_path / "sparse") == label_maps(tmp_path / "dense")


# Temperatures of the confidence, as `calibrate` writes them.
CALIBRATIONS = [{}, {"temperature": 2.5}, {"class_temperatures": [0.5, 1.0, 1.5, 3.0]}]


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=str)
@pytest.mark.parametrize("transforms", [RESIZES[0], GEOMETRIES[-2], []], ids=str)
def test_confidence_is_that_of_python(program, images, tmp_path, transforms, calibration):
    """Within a grey level: exp is rounded otherwise in the last bit."""
    pytest.importorskip("openvino")
    bundle, out = bundle_with(tmp_path / "bundle", transforms), tmp_path / "cpp"
    content = yaml.safe_load((bundle / "deploy.yaml").read_text())
    content["Manifest"]["postprocess"]["calibration"] = calibration
    (bundle / "deploy.yaml").write_text(dump_yaml(content))
    given = ("--config", bundle, "--image_path", images, "--save_confidence")
    done = segment(program, *given, "--save_dir", out)
    assert done.returncode == 0, done.stderr
    predictor = Predictor.open(bundle, "openvino", outputs={"confidence"})
    assert_maps_of(predictor, images, out)
    for path in images.iterdir():
        found = Image.open(out / f"confidence/{path.stem}.png")
        assert found.mode == "L" and found.info["Description"] == CONFIDENCE_MEANS
        expected = np.rint(predictor(path).confidence * 255)
        difference = np.abs(np.asarray(found).astype(int) - expected)
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3, path


def test_bf16_is_that_of_python(program, images, tmp_path):
    pytest.importorskip("openvino")
    spec = RuntimeSpec.parse("openvino_bf16")
    if reason := spec.why_no_bf16():
        pytest.skip(reason)
    bundle, out = bundle_with(tmp_path / "bundle", RESIZES[0]), tmp_path / "cpp"
    given = ("--config", bundle, "--image_path", images, "--precision", "bf16")
    done = segment(program, *given, "--save_dir", out)
    assert done.returncode == 0, done.stderr
    predictor = Predictor.open(bundle, spec)
    assert_maps_of(predictor, images, out)
    report = json.loads((out / "inference.json").read_text())["backend"]
    assert report["precision"] == "bf16" == predictor.describe().precision
    assert report["kernel_precisions"].get("bf16")


def test_confidence_of_class_ids_is_refused(program, images, tmp_path):
    bundle = bundle_with(tmp_path / "bundle", [])
    content = yaml.safe_load((bundle / "deploy.yaml").read_text())
    content["Deploy"]["output_op"] = "argmax"
    content["Manifest"]["postprocess"] |= {"output_op": "argmax", "upsampling": "graph"}
    (bundle / "deploy.yaml").write_text(dump_yaml(content))
    done = segment(program, "--config", bundle, "--image_path", images, "--save_confidence")
    assert done.returncode == 2 and "--output_op none" in done.stderr


def test_confidence_of_other_protocols_is_refused(program, images, tmp_path):
    bundle = bundle_of_logits(tmp_path / "bundle", [])
    given = ("--config", bundle, "--image_path", images, "--protocol", "half_resize")
    done = segment(program, *given, "--save_confidence", "--save_dir", tmp_path / "out")
    assert done.returncode == 2 and "take --protocol whole" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_video_is_that_of_python(program, tmp_path):
    """Label map and confidence of each frame; the overlays within what their codecs lose."""
    pytest.importorskip("openvino")
    film, bundle = tmp_path / "film.avi", bundle_with(tmp_path / "bundle", RESIZES[0])
    generator = np.random.default_rng(3)
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"FFV1"), 12.5, (96, 64))
    for _ in range(5):
        coarse = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        writer.write(cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC))
    writer.release()
    given = ("--config", bundle, "--image_path", film, "--save_label_maps", "--save_confidence")
    done = segment(program, *given, "--save_dir", tmp_path / "cpp", "--batch_size", 2)
    assert done.returncode == 0, done.stderr
    assert "OpenCV" not in done.stderr
    predictor = Predictor.open(bundle, "openvino", outputs={"confidence"})
    settings = VideoSettings(tmp_path / "py", save_label_maps=True, print_detail=False)
    assert run_video(predictor, open_video(film), settings) == 0
    ours, theirs = (
        json.loads((tmp_path / name / "inference.json").read_text()) for name in ("cpp", "py")
    )
    alike = ("num_predicted", "num_written", "num_failed", "frames_per_second", "size_hw")
    assert {key: ours[key] for key in alike} == {key: theirs[key] for key in alike}
    for number in range(5):
        maps, levels = (
            [np.asarray(Image.open(tmp_path / f"{way}/{kind}/film/{number:06}.png")).astype(int)
             for way in ("cpp", "py")]
            for kind in ("label_maps", "confidence")
        )  # fmt: skip
        assert np.array_equal(*maps)
        assert np.abs(levels[0] - levels[1]).max() <= 1
    films = [
        cv2.VideoCapture(str(tmp_path / way / f"overlays/film{CODECS[result['codec']]}"))
        for way, result in (("cpp", ours), ("py", theirs))
    ]
    for _ in range(5):
        (is_read, one), (is_other, other) = (film.read() for film in films)
        assert is_read and is_other
        assert np.abs(one.astype(int) - other).mean() < 12  # two lossy codecs


def test_a_jpeg_is_that_of_python_but_for_its_decoder(program, tmp_path):
    """Two builds of libjpeg: single levels of single pixels, and so near ties."""
    pytest.importorskip("openvino")
    bundle, folder = bundle_with(tmp_path / "bundle", []), tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(5)
    for number, sampling in enumerate((0x111111, 0x211111, 0x221111)):
        coarse = generator.integers(0, 256, (12, 18, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (145, 97), interpolation=cv2.INTER_CUBIC)
        flags = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        cv2.imwrite(str(folder / f"{number}.jpg"), picture, flags)
    out = tmp_path / "cpp"
    done = segment(program, "--config", bundle, "--image_path", folder, "--save_dir", out)
    assert done.returncode == 0, done.stderr
    predictor, differing, total = Predictor.open(bundle, "openvino"), 0, 0
    for path in folder.iterdir():
        found = np.asarray(Image.open(out / f"label_maps/{path.stem}.png"))
        expected = predictor(path).label_map
        differing, total = differing + int((found != expected).sum()), total + found.size
    assert differing <= 0.01 * total


def test_one_bad_image_is_reported_and_the_others_are_done(program, images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "bad.png").write_bytes((folder / "0.png").read_bytes()[:500])
    out = tmp_path / "out"
    done = segment(program, "--config", TINY, "--image_path", folder, "--save_dir", out)
    assert done.returncode == 1
    result = json.loads((out / "inference.json").read_text())
    assert result["num_predicted"] == 4
    (error,) = result["errors"]
    assert "bad.png" in error and "truncated" in error


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small network's bundle with logits, its data and checkpoint; the working directory."""
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("openvino")
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    folder = tmp_path_factory.mktemp("cpp")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data(folder / "data")
        (folder / "net.yml").write_text(CONFIG)
        config = load_config("net.yml")
        write_checkpoint(config, folder / "model.pdparams")
        export(config, "model.pdparams", ExportOptions(folder / "bundle", onnx=True))
        yield folder


def test_counts_and_scores_are_those_of_python(program, project, tmp_path):
    from commands import call

    flags = ("--config", project / "bundle/deploy.yaml", "--image_path", project / "data/val.list")
    assert (
        call("infer.py", *flags, "--save_dir", tmp_path / "py", "--backend", "openvino").status == 0
    )
    done = segment(program, *flags, "--save_dir", tmp_path / "cpp", "--batch_size", 2)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        json.loads((tmp_path / name / "inference.json").read_text()) for name in ("cpp", "py")
    )
    assert ours.keys() == theirs.keys()
    assert ours["evaluation"]["counts"] == theirs["evaluation"]["counts"]
    assert ours["evaluation"]["images"] == theirs["evaluation"]["images"]
    assert ours["evaluation"].keys() == theirs["evaluation"].keys()
    for name, value in theirs["evaluation"]["scores"].items():
        if isinstance(value, float):
            assert ours["evaluation"]["scores"][name] == pytest.approx(value, abs=1e-12)
    assert ours["evaluation"]["protocol"] == theirs["evaluation"]["protocol"]
    assert ours["backend"]["kernels"] == theirs["backend"]["kernels"]
    assert label_maps(tmp_path / "cpp") == label_maps(tmp_path / "py")


def parity(project: Path, save_dir: Path, bundle: str) -> dict:
    given = f"--config {project}/net.yml --model_path {project}/model.pdparams --bundle {bundle}"
    more = f"--image_list {project}/data/val.list --stages cpp --cpu_threads 2 --batch_size 1 2"
    try:
        cli.main([*given.split(), *more.split(), "--save_dir", str(save_dir)])
    finally:
        results = json.loads((save_dir / "results.json").read_text())
    return results


def test_parity_runs_the_program_as_a_stage(program, project, tmp_path):
    results = parity(project, tmp_path / "sound", f"{project}/bundle")
    runs = {run["name"]: run for run in results["runs"] if run["stage"] == "cpp"}
    assert list(runs) == ["cpp threads 2 batch 1", "cpp threads 2 batch 2"]
    assert {run["grade"] for run in runs.values()} <= {"identical", "near-tie"}


def test_parity_fails_the_program_on_a_bundle_without_normalize(program, project, tmp_path):
    from paddleseg_ext.common.errors import CheckFailed

    folder = tmp_path / "bundle"
    shutil.copytree(project / "bundle", folder)
    content = yaml.safe_load((folder / "deploy.yaml").read_text())
    content["Deploy"]["transforms"] = []
    (folder / "deploy.yaml").write_text(dump_yaml(content))
    with pytest.raises(CheckFailed):
        parity(project, tmp_path / "tampered", str(folder))


def recipes() -> list[Path]:
    return sorted((PROJECT / "configs").glob("*/*.yml"))


@pytest.mark.slow
def test_no_recipe_is_refused(program, images, tmp_path):
    """Every recipe's transforms, protocol and classes, around the tests' graph."""
    from paddleseg_ext.data.build import class_table_of
    from paddleseg_ext.evaluation.protocol_choice import requested_rule
    from paddleseg_ext.inference.manifest import DeploySection, Manifest, manifest_section

    assert read_bundle(TINY).manifest is not None
    refused = []
    for yml in recipes():
        if yml.parent.name == "_base_":
            continue
        config = load_config(str(yml))
        folder = tmp_path / yml.stem
        shutil.copytree(TINY, folder)
        transforms = config.val_dataset.get("transforms") or []
        deploy = DeploySection("model.onnx", transforms=transforms, output_op="none")
        manifest = Manifest(
            "Tiny",
            class_table_of(config),
            graphs={"onnx": {"file": "model.onnx"}},
            evaluation=requested_rule(config.test_config, config.absent_class),
        )
        manifest = replace(manifest, orientation=getattr(config, "orientation", "stored"))
        section = manifest_section(manifest, deploy)
        (folder / "deploy.yaml").write_text(
            dump_yaml({"Deploy": dict(vars(deploy)), "Manifest": section})
        )
        # The graph has four classes, the recipe another number: nothing is scored, so it runs.
        out = folder / "out"
        done = segment(
            program, "--config", folder, "--image_path", images / "0.png", "--save_dir", out
        )
        if done.returncode:
            refused.append(f"{yml.name}: {done.stderr.splitlines()[-1]}")
    assert not refused
