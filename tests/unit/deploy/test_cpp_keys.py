"""The C++ program's table of keys is what the Python package declares."""

import pytest

from deploy.cpp import generate_keys
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.manifest import DeploySection
from paddleseg_ext.inference.preprocess import TRANSFORMS


def test_the_table_is_what_the_package_declares() -> None:
    assert generate_keys.main(["--check"]) == 0


def test_a_change_of_the_package_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(generate_keys.CONSTANTS, "kFormat", 2)
    assert generate_keys.main(["--check"]) == 1
    assert "generate_keys.py" in capsys.readouterr().err


def test_a_key_that_the_program_does_not_act_on_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert '{"orientation", "text", "", true, ' in generate_keys.header()
    monkeypatch.setitem(generate_keys.DONE, "kPreprocess", ["color_order"])
    assert '{"orientation", "text", "", false, ' in generate_keys.header()


def test_every_key_and_transform_is_in_the_table() -> None:
    text = generate_keys.HEADER.read_text()
    for name in (*DeploySection.__dataclass_fields__, *TRANSFORMS):
        assert f'{{"{name}", ' in text


def test_the_bundle_of_the_cpp_tests_is_one() -> None:
    bundle = read_bundle(generate_keys.HEADER.parents[1] / "tests" / "bundle")
    assert bundle.manifest is not None and bundle.onnx_file().is_file()
