"""Wrong use of `serve`, found before anything is loaded."""

import sys
from pathlib import Path

import pytest

from paddleseg_ext.commands import serve as cli
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.options import read_options
from paddleseg_ext.serving.keys import read_api_key
from paddleseg_ext.serving.options import ServeOptions


def test_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        cli.main(["--config", str(tmp_path / "deploy.yaml")])


@pytest.mark.parametrize("text", ["", "short", "with spaces in it, long enough", "ü" * 20])
def test_bad_keys(text: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{text}\n")
    with pytest.raises(UsageError, match="--api_key_file"):
        read_api_key(str(file))


def test_a_key_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(UsageError, match="--api_key_file"):
        read_api_key(str(tmp_path / "key"))


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--port", "65536"), ("--port", "-1"), ("--port", "http"), ("--cpu_threads", "100000")],
)
def test_wrong_numbers(flag: str, value: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        cli.build_parser().parse_args(["--config", "deploy.yaml", flag, value])
    assert end.value.code == 2 and f"argument {flag}: expected" in capsys.readouterr().err


def test_a_good_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    assert read_api_key(str(tmp_path / "key")) == "0123456789abcdef"
    assert read_api_key(None) is None


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        UsageError, match=r"uvicorn is not installed: pip install 'paddleseg_ext\[serve\]'"
    ):
        cli.main(["--config", "deploy.yaml"])


def test_the_options_of_a_python_user_are_the_flags() -> None:
    given = cli.build_parser().parse_args(["--config", "deploy.yaml"])
    assert read_options(ServeOptions, given) == ServeOptions()
    flags = ["--max_mib", "0.5", "--max_megapixels", "2", "--allowed_host", "a.example", "b"]
    given = cli.build_parser().parse_args(["--config", "deploy.yaml", *flags])
    options = read_options(ServeOptions, given)
    assert options.allowed_host == ["a.example", "b"]
    assert (options.limits.max_bytes, options.limits.max_pixels) == (1 << 19, 2_000_000)
