"""`paddleseg-ext tipc`, before any chain begins."""

import pytest
from commands import call

from paddleseg_ext.commands import tipc


def test_without_a_checkout_it_says_so_in_one_line(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tipc, "CHECKOUT", tmp_path)  # as installed from a wheel
    done = call("paddleseg_ext", "tipc", "suite")
    assert done.status == 2
    assert done.err == (
        "error: tipc needs a checkout of the project: run it in the folder of test_tipc/\n"
    )
    (tmp_path / "test_tipc").mkdir()
    tipc.require_checkout()


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--networks", "bisenetv3", "no such network (did you mean 'bisenetv"),
        ("--chains", "onnx", "invalid choice: 'onnx'"),
    ],
)
def test_an_unknown_network_or_chain_is_wrong_use(flag: str, value: str, message: str) -> None:
    done = call("paddleseg_ext", "tipc", "suite", flag, value)
    assert done.status == 2
    assert message in done.err
