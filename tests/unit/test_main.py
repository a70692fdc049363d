"""`python -m paddleseg_ext VERB`, before any verb begins."""

import pytest

from paddleseg_ext.__main__ import main
from paddleseg_ext.common.errors import UsageError


@pytest.mark.parametrize("name", ["train", "train.py"])
def test_a_command_of_its_own_is_no_verb(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UsageError, match=r"python train\.py"):
        main([name])
    assert main(["--help"]) == 0
    assert "python train.py --help" in capsys.readouterr().out


def test_the_nearest_verb_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'quantize'"):
        main(["quantise"])
