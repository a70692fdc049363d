"""`paddleseg-ext tipc` where there is no checkout."""

from pathlib import Path

import pytest
from commands import call


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
