"""Annotations with values of another kind: one line each, never a traceback or half a file."""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import label_layouts
import pytest
import tool_exports

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.data.prepare.exports import AnnotationOptions, convert_export

FORMS = {**tool_exports.FORMS, **label_layouts.FORMS}
ODD: list[Any] = ["x", None, -1, [], {}, 1e300, [[1, 2]], True, "", 2**70, {"a": 1}, [None]]
INSERTED = [b"\0", b"nan", b"-1", b"999999999999", b"\xff\xfe", b"<", b"inf "]
ROUNDS = 6


def places(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The places of all values within lists and sections."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, each in value.items() if isinstance(value, dict) else ():
        yield (*above, key)
        yield from places(each, (*above, key))


def changed(content: Any, chance: random.Random) -> Any:
    content = copy.deepcopy(content)
    known = list(places(content))
    if not known:
        return chance.choice(ODD)
    *parents, last = chance.choice(known)
    place = content
    for key in parents:
        place = place[key]
    if chance.random() < 0.2:
        del place[last]
    else:
        place[last] = chance.choice(ODD)
    return content


def damaged(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return chance.choice([content[:place], b"", content[:place] + chance.choice(INSERTED)])


@pytest.mark.parametrize("form", FORMS)
def test_one_line_and_a_rerun_goes_on(form: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    FORMS[form][0](tmp_path / "whole")
    for number in range(ROUNDS):
        chance = random.Random(f"{form}{number}")
        source, target = tmp_path / f"from{number}", tmp_path / f"to{number}"
        shutil.copytree(tmp_path / "whole", source)
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        texts = [p for p in files if p.suffix in (".json", ".xml", ".txt", ".yaml", ".mat")]
        path = chance.choice(texts or files)
        kept = path.read_bytes()
        if path.suffix == ".json":
            path.write_text(json.dumps(changed(json.loads(kept), chance)))
        else:
            path.write_bytes(damaged(kept, chance))
        try:
            convert_export(form, source, target, AnnotationOptions())
        except (UsageError, CheckFailed) as error:
            assert len(str(error).split("\n")[0]) < 600
        assert not list(target.rglob(".writing*"))
        path.write_bytes(kept)
        try:
            convert_export(form, source, target, AnnotationOptions())
        except UsageError as error:  # the classes were others
            assert "made otherwise" in str(error)
            target = tmp_path / f"new{number}"
            convert_export(form, source, target, AnnotationOptions())
        assert len(list(target.rglob("labels/**/*.png"))) >= 2
