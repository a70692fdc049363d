"""A package that is missing is one line that says how to get it."""

import sys

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.packages import optional_imports


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xml.dom", None)
    expected = r"^--x True: xml\.dom is not installed: pip install 'paddleseg_ext\[fast\]'$"
    with pytest.raises(UsageError, match=expected), optional_imports("--x True", "fast"):
        import xml.dom  # noqa: F401


def test_a_broken_package_is_not_called_missing() -> None:
    expected = r"^--x True: libx\.so\.1: cannot open .*pip install '.*', or do without$"
    with (
        pytest.raises(UsageError, match=expected),
        optional_imports("--x True", "fast", "do without"),
    ):
        raise ImportError("libx.so.1: cannot open shared object file")
