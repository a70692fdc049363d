"""`paddleseg-ext tipc`, before any chain begins."""

from pathlib import Path

import pytest
from commands import PROJECT, call


@pytest.mark.parametrize("words", ["run x.txt whole_infer", "prepare x.txt whole_infer", "suite"])
def test_chains_need_a_checkout(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("paddleseg_ext", "tipc", *words.split())
    assert done.status == 2
    assert (
        f"there is no test_tipc/configs in {tmp_path}; chains run in the folder of a " in done.err
    )


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--networks", "bisenetv3", "no such network (did you mean 'bisenetv"),
        ("--chains", "onnx", "invalid choice: 'onnx'"),
    ],
)
def test_an_unknown_network_or_chain_is_wrong_use(
    flag: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    done = call("paddleseg_ext", "tipc", "suite", flag, value)
    assert done.status == 2
    assert message in done.err
