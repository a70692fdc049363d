"""What several tests need."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests"))  # for `commands`


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data beside the project; a user's clone has none, and such tests skip."""
    directory = PROJECT.parent / "shared"
    if not (directory / "golden").is_dir():
        pytest.skip("needs the reference data beside the project")
    return directory


@pytest.fixture
def default_signals() -> Iterator[None]:
    """SIGHUP and SIGINT as usual; `nohup` and a script leave them ignored in children."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def write_tiny_cityscapes(root: Path, train: int = 6, val: int = 2) -> Path:
    """Coloured stripes of four classes, 96x64, in Cityscapes' layout; learnt in a few steps."""
    colours = np.array([[128, 64, 128], [70, 70, 70], [70, 130, 180], [107, 142, 35]], np.uint8)
    classes = np.array([0, 2, 10, 8], np.uint8)
    generator = np.random.default_rng(5)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            stripes = np.repeat(generator.integers(0, 4, 4), 24)[None].repeat(64, axis=0)
            noise = generator.integers(-20, 20, (64, 96, 3))
            image = np.clip(colours[stripes] + noise, 0, 255).astype(np.uint8)
            label = classes[stripes]
            label[:4] = 255
            name = f"tiny_{number:06d}_000000"
            for kind, array in (
                (f"leftImg8bit/{split}/tiny/{name}_leftImg8bit.png", image[:, :, ::-1]),
                (f"gtFine/{split}/tiny/{name}_gtFine_labelTrainIds.png", label),
            ):
                (root / kind).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / kind), array)
    return root


@pytest.fixture
def tiny_cityscapes(tmp_path: Path) -> Path:
    """A fresh copy of `write_tiny_cityscapes`, for tests that damage it."""
    return write_tiny_cityscapes(tmp_path / "cityscapes")


@pytest.fixture(scope="session")
def tiny_cityscapes_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of `write_tiny_cityscapes` for all tests that only read it."""
    return write_tiny_cityscapes(tmp_path_factory.mktemp("data") / "cityscapes")


@pytest.fixture(scope="session")
def uneven_cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine and five images: no number of processes divides them."""
    return write_tiny_cityscapes(tmp_path_factory.mktemp("data") / "cityscapes", train=9, val=5)
