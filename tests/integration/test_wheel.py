"""The wheel, installed, in a folder that holds nothing else."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from commands import PROJECT

from paddleseg_ext.common.version import __version__

CONFIG = "bisenetv1_synthetic_demo"
SOURCES = (
    "paddleseg_ext",
    "configs",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "NOTICE",
)


def run(*command: object, cwd: Path, timeout: float = 900) -> str:
    """Run a command without the checkout on its path; returns its output."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what is built in the checkout stays there, and in later wheels."""
    root = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = PROJECT / name, root / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run(*build, "--wheel-dir", root, root / "source", cwd=root)
    (built,) = root.glob("*.whl")
    return built


def make_environment(folder: Path, with_pip: bool) -> Path:
    """A virtual environment without any package; returns its interpreter."""
    venv.create(folder, with_pip=with_pip)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, in an environment of the wheel and of the packages that run this test."""
    folder = tmp_path_factory.mktemp("installed")
    python = make_environment(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    # Of folders that a .pth file names the .pth files are not read: no editable install is seen.
    packages = {path for path in sys.path if Path(path).name == "site-packages"}
    packages |= {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    site = Path(
        run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
        ).strip()
    )
    (site / "outer.pth").write_text("\n".join(sorted(packages)) + "\n")
    return folder / "bin" / "paddleseg-ext"


def use(command: Path, folder: Path) -> None:
    """What a user does first, in an empty folder."""
    assert run(command, "--version", cwd=folder) == f"paddleseg-ext {__version__}\n"
    assert f"\n{CONFIG} " in run(command, "config", "list", cwd=folder)
    demo = run(command, "demo", "--quick", cwd=folder)
    # After a few iterations some logits are nearly equal: a near tie is a pass, too.
    assert "[DEMO] verdict: identical" in demo or "[DEMO] verdict: near-tie" in demo
    assert "$ paddleseg-ext train " in demo
    assert (folder / "output" / "demo" / "report.html").is_file()
    # The configuration's own dataset_root is what the demo has drawn, below the working directory.
    train = [command, "train", "--config", CONFIG, "--iters", 2, "--save_dir", "run"]
    run(*train, "--device", "cpu", "--do_eval", cwd=folder)
    weights = folder / "run" / "best_model" / "model.pdparams"
    run(
        command,
        "export",
        "--config",
        CONFIG,
        "--model_path",
        weights,
        "--save_dir",
        "bundle",
        cwd=folder,
    )
    infer = [command, "infer", "--config", "bundle/deploy.yaml", "--save_dir", "maps"]
    run(*infer, "--image_path", "output/demo/data/val.list", "--device", "cpu", cwd=folder)
    listed = (folder / "output" / "demo" / "data" / "val.list").read_text().splitlines()
    assert len(list((folder / "maps" / "label_maps").rglob("*.png"))) == len(listed)


def test_the_wheel_holds_the_package_and_the_configurations(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"paddleseg_ext-{__version__}.dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    expected = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "paddleseg_ext").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {
        f"paddleseg_ext/{path.relative_to(PROJECT).as_posix()}"
        for path in (PROJECT / "configs").rglob("*.yml")
    }
    assert names - {name for name in names if name.startswith(info)} == expected
    assert {"paddleseg_ext/py.typed", f"paddleseg_ext/configs/bisenetv1/{CONFIG}.yml"} <= names
    assert "paddleseg-ext = paddleseg_ext.commands.main:run" in entry_points
    for line in metadata.splitlines():
        if line.startswith("Requires-Dist: ") and "extra ==" not in line:
            assert not line.startswith(("Requires-Dist: paddle", "Requires-Dist: visualdl"))


def test_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    python = installed.with_name("python")
    found = run(python, "-c", "import paddleseg_ext; print(paddleseg_ext.__file__)", cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(installed.parents[1])
    use(installed, tmp_path)


def test_several_processes(installed: Path, tmp_path: Path) -> None:
    """The launcher starts the installed command, on gloo."""
    run(installed, "data", "synthetic", "--num_images", 10, "--size", 96, 48, cwd=tmp_path)
    launch = [installed.with_name("python"), "-m", "paddle.distributed.launch"]
    launch += ["--nproc_per_node", 2, "--log_dir", "log", installed, "train", "--config", CONFIG]
    launch += ["--device", "cpu", "--iters", 2, "--log_iters", 1, "--batch_size", 2]
    launch += ["--save_dir", "run", "--opts"]
    launch += [f"{split}_dataset.dataset_root=data/cityscapes" for split in ("train", "val")]
    run(*launch, "train_dataset.transforms.0.crop_size=[64, 32]", cwd=tmp_path)
    assert (tmp_path / "run" / "iter_2" / "model.pdparams").is_file()
    assert len(list((tmp_path / "log").glob("workerlog.*"))) == 2


@pytest.mark.slow
def test_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Everything that `[cpu]` asks for, from the package index, and nothing else."""
    python = make_environment(tmp_path / "environment", with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, f"{wheel}[cpu]", cwd=tmp_path, timeout=1800)
    folder = tmp_path / "empty"
    folder.mkdir()
    use(python.with_name("paddleseg-ext"), folder)


@pytest.mark.slow
def test_an_engine_alone_runs_infer_and_bench(installed: Path, wheel: Path, tmp_path: Path) -> None:
    """Without Paddle and PaddleSeg."""
    data = ["--save_dir", "output/demo/data", "--num_images", 10, "--size", 96, 48]
    run(installed, "data", "synthetic", *data, cwd=tmp_path)
    train = [installed, "train", "--config", CONFIG, "--iters", 2, "--save_dir", "run"]
    run(*train, "--device", "cpu", "--do_eval", cwd=tmp_path)
    export = [installed, "export", "--config", CONFIG, "--save_dir", "bundle", "--onnx", True]
    run(*export, "--model_path", "run/best_model/model.pdparams", cwd=tmp_path)

    python = make_environment(tmp_path / "environment", with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, f"{wheel}[onnxruntime]", cwd=tmp_path, timeout=1800)
    command = python.with_name("paddleseg-ext")
    images = "output/demo/data/leftImg8bit/val"
    infer = [command, "infer", "--config", "bundle/deploy.yaml", "--save_dir", "maps"]
    run(*infer, "--image_path", images, cwd=tmp_path)
    assert len(list((tmp_path / "maps" / "label_maps").rglob("*.png"))) == 2
    bench = [command, "bench", "--config", "bundle/deploy.yaml", "--backend", "onnxruntime"]
    run(*bench, "--data", images, "--rounds", 1, "--save_dir", "bench", cwd=tmp_path)
    with pytest.raises(AssertionError, match=r"pip install 'paddleseg_ext\[cpu\]'"):
        run(command, "train", "--config", CONFIG, "--device", "cpu", cwd=tmp_path)
