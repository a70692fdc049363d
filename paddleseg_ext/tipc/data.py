"""Lays out the data of a TIPC chain: Cityscapes by links, or the embedded data set.

Nothing is downloaded, nothing installed, and only folders that this module made are replaced.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_directory, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.images.samples import Sample, image_sizes, write_sample_list
from paddleseg_ext.images.scenes import SceneOptions, write_synthetic
from paddleseg_ext.tipc import txt
from paddleseg_ext.tipc.plan import check_mode

DATA_ROOT = Path("test_tipc/data")
MARKER = ".prepared.json"
# Images per split of Cityscapes in a `lite` mode.
LITE_IMAGES = 8
# Scenes of the embedded data set, training and validation together.
LITE_SCENES, WHOLE_SCENES = 20, 160
SCENE_SIZE_WH = (512, 256)


@dataclass(frozen=True)
class _Layout:
    """The content of a prepared folder, as its marker records it.

    Attributes:
        source: a Cityscapes folder, or `embedded`.
        train: `lite` for a few images, or `whole`.
        val: the same of the validation split.
    """

    source: str
    train: str
    val: str


def prepare(config: Path, mode: str, source: str | None) -> Path:
    """Lays out the data that a chain's config names, with `train.list`, `val.list`, `infer.list`.

    Args:
        config: the `train_infer_python.txt`; its `--image_path` is DATA_ROOT/NAME/infer.list.
        mode: `lite_train` and `lite_infer` take a few images, `whole_` takes all.
        source: a Cityscapes folder, which is only read; None takes the embedded data set.

    Returns:
        The folder.

    Raises:
        UsageError: wrong config or mode, no Cityscapes at `source`, or the folder exists and was
            not made by this function.
    """
    check_mode(mode, txt.MODES)
    _, sections = txt.read_sections(config)
    lists = [entries["--image_path"] for entries in sections.values() if "--image_path" in entries]
    folder = _folder_of(lists[0])
    wanted = _Layout(
        source=str(Path(source).resolve()) if source else "embedded",
        train="whole" if mode.startswith("whole_train") else "lite",
        val="whole" if mode.endswith("whole_infer") else "lite",
    )
    if folder.exists():
        if not (folder / MARKER).is_file():
            raise UsageError(f"'{folder}' is in the way and was not made by prepare.sh: move it")
        if json.loads((folder / MARKER).read_text(encoding="utf-8")) == asdict(wanted):
            log(f"{folder} is prepared already ({wanted.source})")
            return folder
    with atomic_directory(folder) as work:
        if source:
            _link_cityscapes(Path(source), work, wanted)
        else:
            scenes = LITE_SCENES if wanted.val == "lite" else WHOLE_SCENES
            write_synthetic(work, SceneOptions(scenes, SCENE_SIZE_WH))
        train, val = (Cityscapes(str(work), mode=split).samples for split in ("train", "val"))
        write_sample_list(train, work / "train.list")
        write_sample_list(val, work / "val.list")
        # A batch holds images of one size, so the list is sorted by size.
        val.sort(key=lambda sample: image_sizes([sample.image]))
        write_sample_list(val, work / "infer.list")
        write_json(work / MARKER, asdict(wanted))
    log(f"{folder} is prepared ({wanted.source})")
    return folder


def _folder_of(image_path: str) -> Path:
    path = Path(image_path)
    if path.name != "infer.list" or path.parent.parent != DATA_ROOT:
        raise UsageError(
            f"--image_path:{image_path}: '{DATA_ROOT}/NAME/infer.list' is expected, "
            "which prepare.sh writes"
        )
    return path.parent


def _link_cityscapes(source: Path, work: Path, wanted: _Layout) -> None:
    """Links the images and labels of a Cityscapes folder, in the same layout."""
    for split, extent in (("train", wanted.train), ("val", wanted.val)):
        samples: list[Sample] = Cityscapes(str(source), mode=split).samples
        for sample in samples[:LITE_IMAGES] if extent == "lite" else samples:
            for file in (sample.image, sample.label):
                assert file is not None
                link = work / file.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
