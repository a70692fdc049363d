"""A teacher beside the training: what it changes, what it must not, and wrong teachers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from tiny_training import NUM_CLASSES, ScriptedScores, TinyNet, TinySamples, tiny_config, train_tiny

from paddleseg_ext.checkpoints.manifest import CheckpointManifest, read_manifest
from paddleseg_ext.checkpoints.store import read_arrays, save_arrays, save_weights
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.config import load_config
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.training.distillation import Distiller
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.plan import make_plan
from paddleseg_ext.training.precision import Precision
from paddleseg_ext.training.run_record import weights_here

DROPPING = {"type": "TinyNet", "dropout": 0.3}
WEIGHTS = "model.pdparams"


def save_teacher(path: Path, num_classes: int = NUM_CLASSES, **described: Any) -> Path:
    """A teacher of random weights with a manifest."""
    state = paddle.get_rng_state()
    paddle.seed(5)
    manifest = {
        "config": {"model": {"type": "TinyNet"}},
        "classes": generic_table(num_classes).to_dict(),
    }
    save_weights(TinyNet(num_classes), path, CheckpointManifest(**(manifest | described)))
    paddle.set_rng_state(state)
    return path


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return save_teacher(tmp_path / "teacher.pdparams")


def distilled(folder: Path, teacher: Path, losses: list | None = None, **changes: Any):
    section: dict[str, Any] = {"teacher": str(teacher)} | ({"losses": losses} if losses else {})
    return tiny_config(folder, distillation=section, **({"model": DROPPING} | changes))


def same_bits(one: Path, other: Path) -> bool:
    names = (WEIGHTS, "model.pdopt")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def entries(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "history.json").read_text())["train"]


def test_the_term_is_in_the_loss_and_only_a_weighted_one_changes_the_weights(
    tmp_path: Path, teacher: Path
) -> None:
    """The first iteration begins with the same weights, order and dropout as without a teacher."""
    runs = {"without": tiny_config(tmp_path, model=DROPPING)}
    train_tiny(runs["without"], tmp_path / "without")
    term = {"type": "PixelWiseKLLoss", "temperature": 2}
    train_tiny(distilled(tmp_path, teacher, [term]), tmp_path / "with")
    train_tiny(distilled(tmp_path, teacher, [term | {"weight": 1e-30}]), tmp_path / "nearly")
    plain, taught = entries(tmp_path / "without"), entries(tmp_path / "with")
    assert "distillation_loss" not in plain[0]
    assert plain[0]["head_losses"] == taught[0]["head_losses"]
    assert taught[0]["distillation_loss"] > 0.01
    assert taught[0]["loss"] == pytest.approx(plain[0]["loss"] + taught[0]["distillation_loss"])
    assert not same_bits(tmp_path / "without/iter_4", tmp_path / "with/iter_4")
    # A term too small to move a weight: the teacher itself takes part in nothing else.
    assert same_bits(tmp_path / "without/iter_4", tmp_path / "nearly/iter_4")


def test_a_student_learns_its_teacher(tmp_path: Path, teacher: Path) -> None:
    config = distilled(tmp_path, teacher, [{"type": "PixelWiseKLLoss", "weight": 5}], iters=60)
    train_tiny(config, tmp_path / "run", save_interval=60)
    terms = [entry["distillation_loss"] for entry in entries(tmp_path / "run")]
    assert np.mean(terms[-5:]) < 0.5 * np.mean(terms[:5])


def test_the_teacher_is_evaluated_and_never_trained(tmp_path: Path, teacher: Path) -> None:
    config = distilled(tmp_path, teacher, [{"type": "PixelWiseKLLoss"}])
    plan = make_plan(config, TrainOptions(save_dir=tmp_path / "run", device="cpu"))
    assert plan.distillation is not None
    distiller = Distiller(plan.distillation, config, TinySamples())
    before = {name: w.numpy().copy() for name, w in distiller.teacher.state_dict().items()}
    images = paddle.randn([2, 3, 8, 8])
    student = paddle.randn([2, NUM_CLASSES, 8, 8])
    student.stop_gradient = False
    labels = paddle.zeros([2, 8, 8], "int64")
    together = distiller.term(images, [student], labels, Precision("fp32"))
    together.backward()
    alone = [
        float(distiller.term(images[i : i + 1], [student[i : i + 1]], labels, Precision("fp32")))
        for i in (0, 1)
    ]  # with statistics of the batch they would differ
    assert float(together) == pytest.approx(sum(alone) / 2, rel=1e-5)
    assert student.grad is not None
    for name, weight in distiller.teacher.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), before[name])
        assert weight.grad is None


def test_a_static_graph_learns_the_same(tmp_path: Path, teacher: Path) -> None:
    config = distilled(tmp_path, teacher, model={"type": "TinyNet"})
    for to_static in (False, True):
        train_tiny(config, tmp_path / str(to_static), to_static=to_static)
    assert same_bits(tmp_path / "False/iter_4", tmp_path / "True/iter_4")


@pytest.mark.parametrize("changes", [{}, {"ema": {"decay": 0.5}}, {"accumulate": 2}])
def test_resuming_is_to_the_bit(tmp_path: Path, teacher: Path, changes: dict[str, Any]) -> None:
    config = distilled(tmp_path, teacher, **changes)
    train_tiny(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole/iter_2", tmp_path / "parts/iter_2")
    paddle.seed(99)
    train_tiny(config, tmp_path / "parts", resume_model="auto")
    assert same_bits(tmp_path / "whole/iter_4", tmp_path / "parts/iter_4")
    assert entries(tmp_path / "whole")[2:] == entries(tmp_path / "parts")


def test_a_checkpoint_has_the_students_tensors_and_the_teachers_hash(
    tmp_path: Path, teacher: Path
) -> None:
    train_tiny(tiny_config(tmp_path), tmp_path / "without")
    config = distilled(tmp_path, teacher, model={"type": "TinyNet"})
    train_tiny(config, tmp_path / "with", validate=ScriptedScores(0.1, 0.2))
    for name in ("iter_4", "best_model"):
        arrays = read_arrays(tmp_path / "with" / name / WEIGHTS)
        assert arrays.keys() == read_arrays(tmp_path / "without/iter_4" / WEIGHTS).keys()
        manifest = read_manifest(tmp_path / "with" / name / WEIGHTS)
        assert manifest.training["teacher"] == sha256_of(teacher)
        assert manifest.config["distillation"] == {"teacher": str(teacher)}
    assert "teacher" not in read_manifest(tmp_path / "without/iter_4" / WEIGHTS).training
    assert weights_here(config, None) == {str(teacher): sha256_of(teacher)}


def test_another_teacher_is_refused_when_a_run_is_resumed(tmp_path: Path, teacher: Path) -> None:
    train_tiny(distilled(tmp_path, teacher), tmp_path / "run")
    longer = distilled(tmp_path, teacher, iters=6)
    arrays = {name: array + 1 for name, array in read_arrays(teacher).items()}
    save_arrays(arrays, teacher, read_manifest(teacher))
    with pytest.raises(UsageError, match=r"that run had teacher .*, this one has .*distillation"):
        train_tiny(longer, tmp_path / "run", resume_model="auto")
    without = tiny_config(tmp_path, model=DROPPING, iters=6)
    with pytest.raises(UsageError, match="this one has none"):
        train_tiny(without, tmp_path / "run", resume_model="auto")


def nan_weights(path: Path) -> None:
    arrays = read_arrays(path)
    arrays["aux.bias"] = arrays["aux.bias"] * np.nan
    save_arrays(arrays, path, read_manifest(path))


def overflowing(path: Path) -> None:
    arrays = read_arrays(path)
    arrays["head.weight"] = np.full_like(arrays["head.weight"], 3e38)
    save_arrays(arrays, path, read_manifest(path))


def other_names(path: Path) -> None:
    table = generic_table(NUM_CLASSES, ["sky", "road", "car"])
    save_teacher(path, classes=table.to_dict())


def no_manifest(path: Path) -> None:
    path.with_name(path.name + ".json").unlink()


class NamedSamples(TinySamples):
    def __init__(self) -> None:
        super().__init__()
        self.class_table = generic_table(NUM_CLASSES, ["road", "sky", "car"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, r"distillation: teacher.*does not exist"),
        (lambda path: path.write_bytes(b"x" * 40), "sha256 is not the one"),
        (nan_weights, "aux.bias.*NaN or infinite"),
        (overflowing, "logits of the teacher, TinyNet,.* not finite"),
        (lambda path: save_teacher(path, 4), "trained on 4 classes.* the data has 3"),
        (lambda path: save_teacher(path, 4, classes=None), "holds no classes"),
        (other_names, r"trained on 3 classes, \['sky', 'road', 'car'\]"),
        (no_manifest, "does not exist; give the yml"),
    ],
)
def test_a_wrong_teacher_is_refused_before_training(
    tmp_path: Path, teacher: Path, spoil: Any, words: str
) -> None:
    config = distilled(tmp_path, teacher)
    train_tiny(config, tmp_path / "right", NamedSamples())  # the teacher's classes have no names
    spoil(teacher)
    with pytest.raises(UsageError, match=words) as caught:
        train_tiny(config, tmp_path / "wrong", NamedSamples())
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "wrong").glob("iter_*"))


def test_without_classes_in_a_manifest_the_tensors_shapes_decide(
    tmp_path: Path, teacher: Path
) -> None:
    yml = tmp_path / "teacher.yml"
    yml.write_text(yaml.safe_dump({"model": {"type": "TinyNet"}}))
    section = {"teacher": str(teacher), "teacher_config": str(yml)}
    no_manifest(teacher)
    config = tiny_config(tmp_path, distillation=section)
    train_tiny(config, tmp_path / "run")
    save_teacher(teacher, 4)
    no_manifest(teacher)
    with pytest.raises(UsageError, match=r"(?s)misshapen: .*head\.weight"):
        train_tiny(config, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distillation": {}}, "the teacher's weights are missing"),
        ({"distillation": {"techer": "x"}}, "did you mean 'teacher'"),
        ({"distillation": 5}, "'distillation' must be a section"),
        ({"distillation": {"teacher": "TEACHER", "losses": [{"type": "X"}]}}, "unknown.*'X'|'X'"),
        ({"distillation": {"teacher": "TEACHER", "losses": [5]}}, "losses"),
        ({"distillation": {"teacher": "TEACHER", "losses": []}}, "losses: at least one loss"),
        (
            {"distillation": {"teacher": "TEACHER", "losses": [{"type": "X", "weight": 0}]}},
            r"losses\[0\]: a weight above 0",
        ),
        (
            {"distillation": {"teacher": "TEACHER", "losses": [{"type": "X", "weight": "a"}]}},
            "'weight' must be a number",
        ),
        (
            {"distillation": {"teacher": "TEACHER"}, "distill_loss": {"types": [], "coef": []}},
            "distill_loss: 'types' and 'coef' are expected",
        ),
        (
            {
                "distillation": {"teacher": "TEACHER", "losses": [{"type": "PixelWiseKLLoss"}]},
                "distill_loss": {"types": [{"type": "KLLoss"}], "coef": [1]},
            },
            "both given",
        ),
    ],
)
def test_a_wrong_section_is_one_line(
    tmp_path: Path, teacher: Path, changes: dict[str, Any], words: str
) -> None:
    text = json.dumps(changes).replace("TEACHER", str(teacher))
    with pytest.raises(UsageError, match=words) as caught:
        train_tiny(tiny_config(tmp_path, **json.loads(text)), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_paddlesegs_form_is_the_same_run(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`distill_loss:` in the student's yml, the weights as `pretrained` of the teacher's."""
    yml = tmp_path / "teacher.yml"
    yml.write_text(yaml.safe_dump({"model": {"type": "TinyNet", "pretrained": str(teacher)}}))
    term = {"type": "PixelWiseKLLoss", "temperature": 2}
    theirs = tiny_config(tmp_path, distill_loss={"types": [term], "coef": [3]}, model=DROPPING)
    with_flags = [
        load_config(theirs.path, teacher_config=str(yml)),
        load_config(theirs.path, teacher_model=str(teacher)),
    ]
    for number, config in enumerate(with_flags):
        train_tiny(config, tmp_path / f"theirs{number}")
    assert str(teacher) in weights_here(with_flags[0], None)
    train_tiny(theirs, tmp_path / "alone")
    assert "distill_loss is not used" in capsys.readouterr().out
    train_tiny(distilled(tmp_path, teacher, [term | {"weight": 3}]), tmp_path / "ours")
    for number in (0, 1):
        assert same_bits(tmp_path / f"theirs{number}/iter_4", tmp_path / "ours/iter_4")
    assert not same_bits(tmp_path / "alone/iter_4", tmp_path / "ours/iter_4")
