"""Whatever a yml file holds, what is wrong with it is one line that names the file."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.yml import read_sections


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [", r"x\.yml, line 2: "),
        (b"a: \xff\xfe", r"x\.yml: cannot be read: "),
        (b"a: \x00", r"x\.yml: not a yml file: .*#x0000"),
        (b"a: 2020-13-40", r"x\.yml: not a yml file: month"),
        (b"- a", r"x\.yml: a list of names is expected"),
        (b"", r"x\.yml: a list of names is expected"),
        (b"a: !!python/object/apply:os.getcwd []", r"x\.yml, line 1: could not determine"),
    ],
)
def test_wrong_files_are_one_clear_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_sections(path, "a list of names")
    assert "\n" not in str(caught.value)


def test_a_file_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.yml: cannot be read: .*No such file"):
        read_sections(tmp_path / "x.yml", "a section")
