"""What `predict.py` and `infer.py` do alike."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.prediction_run import check_inputs_stay, output_files
from paddleseg_ext.images.samples import Sample


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("label_maps/a.png", "overlays/a.jpg", "images/a.png", "labels/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def check(image: Path, label: Path | None, save_dir: Path) -> None:
    samples = [Sample(image.parent / "z.png", None, "z"), Sample(image, label, "a")]
    check_inputs_stay(samples, output_files(samples, save_dir))


def test_results_beside_the_inputs(files: Path) -> None:
    check(files / "images/a.png", files / "labels/a.png", files)
    check(files / "label_maps/a.png", None, files / "elsewhere")


@pytest.mark.parametrize(
    "name", ["label_maps/a.png", "overlays/a.jpg", "images/../label_maps/a.png"]
)
def test_no_input_is_written_over(files: Path, name: str) -> None:
    for image, label in ((name, None), ("images/a.png", name)):
        with pytest.raises(UsageError, match="is an input, and a result would replace it"):
            check(files / image, files / label if label else None, files)


def test_links(files: Path) -> None:
    """A result takes the place of a link, and leaves what it points to alone."""
    (files / "link.png").symlink_to(files / "label_maps/a.png")
    (files / "again").symlink_to(files)
    for image, save_dir in (("link.png", "."), ("label_maps/a.png", "again")):
        with pytest.raises(UsageError, match="is an input"):
            check(files / image, None, files / save_dir)
    (files / "label_maps/a.png").unlink()
    (files / "label_maps/a.png").symlink_to(files / "images/a.png")
    check(files / "images/a.png", None, files)
    with pytest.raises(UsageError, match="is an input"):
        check(files / "label_maps/a.png", None, files)
