"""Looking components up and building them."""

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.registry import BACKBONES, LOSSES, MODELS, Registry, build


def make_colour(red: int, green: int = 0) -> tuple[int, int]:
    if red < 0:
        raise ValueError("red must be at least 0")
    if green < 0:
        raise ValueError("(InvalidArgument) green.\n  [Hint: a stack]\n")
    if red > 255:
        raise UsageError("red: at most 255 is expected")
    return red, green


COLOURS = Registry("colour", [f"{__name__}:make_colour"])


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType(__name__)
    module.make_colour = make_colour
    monkeypatch.setitem(sys.modules, __name__, module)


def test_a_duplicate_name_raises() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        Registry("colour", ["a:Red", "b:Red"])


def test_arguments_and_defaults() -> None:
    spec = {"type": "make_colour", "red": 1}
    assert build(COLOURS, spec, "here") == (1, 0)
    assert build(COLOURS, spec, "here", red=5, green=7, blue=9) == (1, 7)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"red": 1}, "here: a section with 'type: NAME' is expected"),
        ("make_colour", "here: a section with"),
        ({"type": "make_color", "red": 1}, "here: unknown .*did you mean 'make_colour'"),
        ({"type": "make_colour", "red": 1, "gren": 2}, "here: make_colour takes no 'gren'"),
        ({"type": "make_colour"}, "here: make_colour needs 'red'"),
        ({"type": "make_colour", "red": -1}, "here: make_colour: red must be at least 0"),
        (
            {"type": "make_colour", "red": 1, "green": -1},
            r"here: make_colour: ValueError: \(InvalidArgument\) green\.$",
        ),
        ({"type": "make_colour", "red": 256}, "^here: red: at most 255"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(spec: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(COLOURS, spec, "here")


@pytest.mark.parametrize(
    ("missing", "type_name", "expected"),
    [
        (
            "paddleseg",
            "paddleseg.PPLiteSeg",
            "here: model 'paddleseg.PPLiteSeg' needs PaddleSeg, which is not installed: "
            "pip install --no-deps paddleseg==2.8.0",
        ),
        (
            "paddleseg",
            "BiseNetV3",
            "here: model 'BiseNetV3' is none of ours (did you mean 'BiSeNetV2'?), and needs "
            "PaddleSeg, which is not installed: pip install --no-deps paddleseg==2.8.0",
        ),
        (
            "filelock",
            "paddleseg.PPLiteSeg",
            "here: model 'paddleseg.PPLiteSeg' needs PaddleSeg, and filelock for it is not "
            "installed: pip install 'paddleseg_ext[cpu]'",
        ),
    ],
)
def test_a_component_of_paddlesegs_without_it(
    missing: str, type_name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(MODELS, "_paddleseg_components", fail)
    with pytest.raises(UsageError) as error:
        build(MODELS, {"type": type_name}, "here")
    assert str(error.value) == expected
    assert MODELS.find("BiSeNetV2")  # ours work without it


def test_a_word_for_a_truth_value_is_refused() -> None:
    spec = {"type": "STDCNet813", "last_stage": "false"}
    with pytest.raises(UsageError, match=r"here: 'last_stage' must be true or false.*'false'"):
        build(BACKBONES, spec, "here")


def test_ours_come_first_and_paddlesegs_on_request() -> None:
    assert BACKBONES.find("ResNet18_vd").__module__.startswith("paddleseg_ext")
    assert BACKBONES.find("paddleseg.ResNet18_vd").__module__.startswith("paddleseg.")
    theirs = BACKBONES.find("ResNet18_vd", only_paddleseg=True)
    assert theirs.__module__.startswith("paddleseg.")
    assert MODELS.find("PPLiteSeg").__module__.startswith("paddleseg.")
    with pytest.raises(UsageError, match=r"unknown model 'paddleseg\.BiSeNetV9'"):
        MODELS.find("paddleseg.BiSeNetV9")


def test_paddlesegs_is_taken_where_only_it_has_the_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where its parts are sections: but never for a misspelt argument of ours."""
    loss = build(LOSSES, {"type": "DiceLoss", "weight": [1.0, 2.0]}, "loss")
    assert type(loss).__module__.startswith("paddleseg.")
    assert "loss: DiceLoss is PaddleSeg's, which has these arguments" in capsys.readouterr().out
    for spec in ({"type": "DiceLoss", "wieght": [1.0]}, {"type": "DiceLoss", "smoth": 1.0}):
        with pytest.raises(UsageError, match="loss: DiceLoss takes no '"):
            build(LOSSES, spec, "loss")
    parts = [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}]
    mixed = build(LOSSES, {"type": "MixedLoss", "losses": parts, "coef": [1.0, 2.0]}, "loss")
    assert [type(part).__module__.partition(".")[0] for part in mixed.losses] == ["paddleseg"] * 2
