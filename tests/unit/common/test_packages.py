"""A package that is missing is one line that says how to get it."""

import sys

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.packages import optional_imports


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xml.dom", None)
    with (
        pytest.raises(UsageError, match=r"^--x True: xml\.dom is not installed: pip install -r r$"),
        optional_imports("--x True", "-r r"),
    ):
        import xml.dom  # noqa: F401


def test_a_broken_package_is_not_called_missing() -> None:
    with (
        pytest.raises(UsageError, match=r"^--x True: libx\.so\.1: cannot open .*pip install -r r$"),
        optional_imports("--x True", "-r r"),
    ):
        raise ImportError("libx.so.1: cannot open shared object file")
