"""`paddleseg-ext VERB`, before any verb begins."""

import subprocess
import sys

import pytest
from commands import PROJECT, call

from paddleseg_ext.commands.main import VERBS
from paddleseg_ext.common.version import __version__


def test_help_lists_every_verb() -> None:
    done = call("paddleseg_ext", "--help")
    assert done.status == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.out


def test_without_a_verb_the_status_is_that_of_wrong_use() -> None:
    assert call("paddleseg_ext").status == 2


def test_version() -> None:
    assert call("paddleseg_ext", "--version").out == f"paddleseg-ext {__version__}\n"


def test_the_nearest_verb_is_named() -> None:
    assert "did you mean 'quantize'" in call("paddleseg_ext", "quantise").error_lines[0]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("data", "tipc")])
def test_every_verb_teaches_itself(verb: str) -> None:
    done = call("paddleseg_ext", verb, "--help")
    assert done.status == 0
    assert done.out.startswith(f"usage: paddleseg-ext {verb} ")


@pytest.mark.parametrize("script", ["train", "val", "predict", "export_model", "infer"])
def test_a_script_of_paddlesegs_name_is_the_verb(script: str) -> None:
    verb = "export" if script == "export_model" else script
    assert call(f"{script}.py", "--help").out == call("paddleseg_ext", verb, "--help").out


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, paddleseg_ext\n"
        "heavy = {'numpy', 'cv2', 'yaml', 'paddle'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_names_at_the_top_are_loaded_when_they_are_used() -> None:
    code = (
        "import sys, paddleseg_ext\n"
        "assert {'__version__', *paddleseg_ext.__all__} <= {*dir(paddleseg_ext)}\n"
        "assert 'numpy' not in sys.modules\n"
        "from paddleseg_ext import Predictor, RuntimeSpec, Segmentation, __version__\n"
        "assert Predictor.__module__ == Segmentation.__module__\n"
        "assert RuntimeSpec.parse('openvino_int8').precision == 'int8'\n"
        "assert 'paddle' not in sys.modules\n"
        "try:\n"
        "    paddleseg_ext.Nothing\n"
        "except AttributeError as error:\n"
        "    assert str(error) == \"module 'paddleseg_ext' has no attribute 'Nothing'\"\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_verb_without_paddle_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(argv: list[str]) -> None:
        raise ModuleNotFoundError("No module named 'paddle'", name=argv[0])

    monkeypatch.setattr("paddleseg_ext.commands.train.main", main)
    expected = "error: train: paddle is not installed: pip install 'paddleseg_ext[cpu]'"
    assert call("paddleseg_ext", "train", "paddle").error_lines == [expected]
    with pytest.raises(ModuleNotFoundError):  # a package of ours that is missing is a defect
        call("paddleseg_ext", "train", "paddleseg_ext.nothing")


def test_every_verb_hands_out_its_parser_without_paddle() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(paddle=None, paddleseg=None)  # an import of them raises\n"
        "from paddleseg_ext.commands.main import VERBS, parser_of\n"
        "for verb in VERBS:\n"
        "    assert parser_of(verb).prog == f'paddleseg-ext {verb}', verb\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
