"""Every form of `data prepare`, from its miniature to a trained and scored network, by commands."""

from pathlib import Path

import label_layouts
import numpy as np
import pytest
import tool_exports
import yaml
from commands import call

from paddleseg_ext.images.reading import read_label
from paddleseg_ext.images.samples import read_sample_list

QUICK = ("labelme", "coco", "eiseg")
FORMS = [*tool_exports.FORMS, *label_layouts.FORMS]


def make(form: str, root: Path) -> None:
    root.mkdir()
    known = {**tool_exports.FORMS, **label_layouts.FORMS}
    known[form][0](root)


def truth(form: str, image: Path, names: list[str]) -> np.ndarray:
    if form in tool_exports.FORMS:
        return tool_exports.expected(form, image.stem, names)
    return np.array([label_layouts.FORMS[form][1]] * 2, np.uint8)


def run(*arguments: object) -> str:
    finished = call("paddleseg_ext", *arguments)
    assert finished.status == 0, finished.err[-800:]
    return finished.out


@pytest.mark.parametrize(
    "form", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FORMS]
)
def test_from_an_export_to_scores(form: str, tmp_path: Path) -> None:
    make(form, tmp_path / "from")
    prepared, run_dir = tmp_path / "to", tmp_path / "run"
    run("data", "prepare", form, "--from", tmp_path / "from", "--to", prepared, "--nproc", 1)
    run("data", "init", prepared, "--save_dir", run_dir, "--network", "stdc1", "--iters", 2)
    config = run_dir / "stdc1.yml"
    run("data", "check", "--config", config)
    section = yaml.safe_load((prepared / "classes.yml").read_text())["classes"]
    names = section["names"]
    pairs = [
        (read_label(sample.label), truth(form, sample.image, names))
        for path in run_dir.glob("*.list")
        for sample in read_sample_list(path)
        if sample.label is not None
    ]
    assert len(pairs) >= 2
    for value in np.unique(np.concatenate([true.ravel() for _, true in pairs])):  # also 255
        both = sum(np.sum((found == value) & (true == value)) for found, true in pairs)
        either = sum(np.sum((found == value) | (true == value)) for found, true in pairs)
        assert both / either >= 0.999
    trained = run("train", "--config", config, "--do_eval", "--device", "cpu", "--save_dir",
                  tmp_path / "out", "--save_interval", 2)  # fmt: skip
    assert "iter: 2/2" in trained and "mIoU" in trained
    weights = tmp_path / "out/best_model/model.pdparams"
    scored = run("val", "--config", config, "--model_path", weights, "--device", "cpu")
    assert "mIoU" in scored and all(name in scored for name in names[:3])
