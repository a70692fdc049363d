"""history.json: written and read back, cut off where a run is resumed."""

import json
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.training.history import EarlyStop, History, LossEntry, ScoreEntry

HISTORY = History(
    train=[LossEntry(i, 1.0 / i, 0.1) for i in (1, 2, 3, 4)],
    eval=[ScoreEntry(2, 0.5, 0.9), ScoreEntry(4, 0.4, 0.8)],
    by_protocol={"scale_0.5": [ScoreEntry(2, 0.3, 0.7), ScoreEntry(4, 0.2, 0.6)]},
    early_stop=EarlyStop(4, 1, 2),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    HISTORY.write(path)
    assert History.read(path) == HISTORY
    content = json.loads(path.read_text())
    assert list(content) == ["train", "eval", "eval_scale_0.5", "early_stop"]
    assert content["eval"][0] == {"iter": 2, "mean_iou": 0.5, "accuracy": 0.9}


@pytest.mark.parametrize(("evaluated", "scored"), [(True, [2, 4]), (False, [2])])
def test_a_resumed_run_takes_over_what_is_done(evaluated: bool, scored: list[int]) -> None:
    rest = HISTORY.up_to(4, evaluated)
    assert [entry.iter for entry in rest.train] == [1, 2, 3, 4]
    assert [entry.iter for entry in rest.eval] == scored
    assert [entry.iter for entry in rest.by_protocol["scale_0.5"]] == scored
    assert rest.early_stop is None
    assert [entry.iter for entry in HISTORY.up_to(3, True).train] == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"train": [{}], "eval": []}',
        '{"train": [{"iter": "1", "loss": 1, "lr": 1}], "eval": []}',
        '{"train": [], "eval": [3]}',
        '{"train": [], "eval": [], "eval_x": {"a": 1}}',
        "[" * 100_000,
    ],
)
def test_another_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a history\.json of train\.py is expected") as caught:
        History.read(path)
    assert "\n" not in str(caught.value)
