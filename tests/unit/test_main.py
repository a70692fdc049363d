"""`python -m paddleseg_ext VERB`, before any verb begins."""

import pytest
from commands import call


@pytest.mark.parametrize("name", ["train", "train.py"])
def test_a_command_of_its_own_is_no_verb(name: str) -> None:
    done = call("paddleseg_ext", name)
    assert done.status == 2
    assert done.error_lines == [f"error: '{name}' is a command of its own: python train.py ..."]


def test_help_names_the_commands_beside_the_verbs() -> None:
    done = call("paddleseg_ext", "--help")
    assert done.status == 0
    assert "python train.py --help" in done.out


def test_the_nearest_verb_is_named() -> None:
    assert "did you mean 'quantize'" in call("paddleseg_ext", "quantise").error_lines[0]
