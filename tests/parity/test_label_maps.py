"""From a picture's file to its label map, as the originals' own tools make it.

The arithmetic around the network is written out here as in the originals; the network is the one
that the golden cases compare. On our side everything is what a user runs: `import` without a
configuration, the preprocessing of its manifest, the predictor and the named protocol.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from paddle.nn import functional as F
from PIL import Image

from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.published.golden import build_network, generation_of
from paddleseg_ext.published.golden_data import make_state_dict, read_case
from paddleseg_ext.published.importer import import_checkpoint
from paddleseg_ext.scoring.protocols import PROTOCOLS

from .test_published_inputs import COINCHEUNG, IMAGENET

pytestmark = pytest.mark.parity
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MARGIN = 1e-4  # between the two largest logits: below it, rounding may decide
SIZE_WH = (205, 150)


class System:
    """A published network: as the golden cases build it, and as a user imports it."""

    def __init__(self, case_name: str, folder: Path):
        case = read_case(GOLDEN / case_name)
        generation = generation_of(case)
        assert generation is not None
        self._network = build_network(case, generation)
        np.savez(folder / "weights.npz", **make_state_dict(case))
        imported = import_checkpoint(folder / "weights.npz", None, folder / "ours.pdparams")
        self.predictor = Predictor.open(imported.path)

    def logits(self, images: np.ndarray) -> paddle.Tensor:
        """(1, C, h, w) of the main head at the size of (1, 3, h, w) images."""
        with paddle.no_grad():
            return self._network(paddle.to_tensor(images.astype(np.float32)))[0]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], System]:
    made: dict[str, System] = {}

    def make(case_name: str) -> System:
        if case_name not in made:
            made[case_name] = System(case_name, tmp_path_factory.mktemp(case_name))
        return made[case_name]

    return make


def picture(folder: Path, size_wh: tuple[int, int]) -> Path:
    """A smooth picture in a file, so that its channel order is part of the comparison."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "picture.png"), cv2.resize(noise, size_wh))
    return folder / "picture.png"


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def resized(images: paddle.Tensor, size_hw: tuple[int, int], aligned: bool) -> paddle.Tensor:
    return F.interpolate(images, size_hw, mode="bilinear", align_corners=aligned)


def batch_of(image: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(image.transpose(2, 0, 1)[None].astype(np.float32))


def expect_equal(label_map: np.ndarray, logits: np.ndarray) -> None:
    """Every pixel whose classes are further apart than rounding is equal."""
    two, one = np.sort(logits[0], axis=0)[-2:]
    decided = one - two > MARGIN
    different = label_map != logits[0].argmax(axis=0)
    assert not (different & decided).any(), f"{int((different & decided).sum())} pixels differ"
    assert decided.mean() > 0.99
    assert len(np.unique(label_map)) > 3


def up_to_32(side: int) -> int:
    return -(-side // 32) * 32


@pytest.mark.parametrize(
    ("protocol", "aligned"), [("ss", True), ("coincheung_demo", False)], ids=["evaluate", "demo"]
)
@pytest.mark.parametrize("case", ["cc_v1_head_64x128", "cc_v2_head_64x128"])
def test_coincheung(
    case: str, protocol: str, aligned: bool, system: Callable[[str], System], tmp_path: Path
) -> None:
    """tools/evaluate.py (MscEvalV0 at scale 1) and tools/demo.py."""
    original, path = system(case), picture(tmp_path, SIZE_WH)
    image = batch_of(COINCHEUNG(pixels_of(path)))
    height, width = image.shape[2:]
    image = resized(image, (up_to_32(height), up_to_32(width)), aligned)
    logits = resized(original.logits(image.numpy()), (height, width), aligned).numpy()
    ours = by_protocol(original.predictor, PROTOCOLS[protocol])(path)
    expect_equal(ours.label_map, logits)


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_stdc(scale: float, system: Callable[[str], System], tmp_path: Path) -> None:
    """evaluation.py, MscEvalV0."""
    original, path = system("stdc813_abn_75x109"), picture(tmp_path, SIZE_WH)
    image = batch_of(IMAGENET(pixels_of(path)))
    height, width = image.shape[2:]
    image = resized(image, (int(height * scale), int(width * scale)), True)
    logits = resized(original.logits(image.numpy()), (height, width), True).numpy()
    ours = by_protocol(original.predictor, PROTOCOLS[f"scale_{scale:g}"])(path)
    expect_equal(ours.label_map, logits)


@pytest.mark.parametrize("size_wh", [(512, 512), (700, 640)], ids=["own size", "larger"])
def test_face_parsing(
    size_wh: tuple[int, int], system: Callable[[str], System], tmp_path: Path
) -> None:
    """test.py: Pillow's bilinear to 512x512; the mask stays at that size."""
    original, path = system("faceparsing_64x128"), picture(tmp_path, size_wh)
    small = Image.open(path).convert("RGB").resize((512, 512), Image.Resampling.BILINEAR)
    logits = original.logits(batch_of(IMAGENET(np.asarray(small))).numpy()).numpy()
    predictor = original.predictor
    prepared = predictor.prepare(path)
    outputs = predictor.run(prepared.tensor[None], [prepared.geometry]).outputs
    expect_equal(outputs[0].argmax(axis=0), logits)
    if size_wh == (512, 512):
        expect_equal(predictor(path).label_map, logits)
