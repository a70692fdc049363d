"""Rows, honest counts, paired differences, and each format by a reader of its own."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from commands import call
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker
from tiny_training import NUM_CLASSES, tiny_config

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.studies.table import find_runs, make_table, paired_difference
from paddleseg_ext.studies.table_formats import csv_of, latex_of, markdown_of
from paddleseg_ext.training.history import History, LossEntry, ScoreEntry

SIZE_HW = (16, 24)


def write_run(folder: Path, seed: int, scores: list[float], done: int = 4, **keys: Any) -> Path:
    """The files of a run of 4 iterations, `done` of them trained, that `table` reads."""
    folder.mkdir(parents=True)
    config = tiny_config(folder, iters=4, **keys).raw
    start = {"command": "train", "directory": "/", "time": "", "iteration": 0, "config": config}
    start |= {"options": {"seed": seed}, "num_classes": NUM_CLASSES}
    (folder / "run.json").write_text(json.dumps({"starts": [start]}))
    entries = [ScoreEntry(i + 1, score, 0.9) for i, score in enumerate(scores)]
    losses = [LossEntry(i, 1.0, 0.1) for i in range(1, done + 1)]
    History(losses, entries, {"scale_0.5": entries[:1]}).write(folder / "history.json")
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two decays: three seeds of the first, of the second two and one that is not finished."""
    for seed, score in enumerate([0.50, 0.52, 0.57]):
        write_run(tmp_path / "study" / "decay=1e-4" / f"seed_{seed}", seed, [score, score - 0.1])
    other = {"optimizer": {"type": "sgd", "weight_decay": 5e-4}}
    for seed, score in enumerate([0.53, 0.57]):
        write_run(tmp_path / "study" / "decay=5e-4" / f"seed_{seed}", seed, [score], **other)
    write_run(tmp_path / "study" / "decay=5e-4" / "seed_2", 2, [0.9], done=3, **other)
    return tmp_path / "study"


def test_seeds_are_one_row_and_unfinished_runs_are_left_out(study: Path) -> None:
    first, second = make_table([study], input_hw=SIZE_HW).rows
    assert (first.name, second.name) == ("decay=1e-4", "decay=5e-4")
    assert list(first.scores) == [0, 1, 2] and list(second.scores) == [0, 1]
    assert first.mean == pytest.approx(0.53)
    assert first.deviation == pytest.approx(0.036056, abs=1e-6)
    # 3x3 convolution of 3 to 6 channels, 1x1 head to 3 classes; running statistics do not count.
    assert first.parameters == (27 * 6 + 6) + 12 + (18 + 3)
    assert first.multiply_adds == 16 * 24 * (27 * 6 + 6 * 3)
    notes = make_table([study], input_hw=SIZE_HW).notes
    assert f"{study / 'decay=5e-4' / 'seed_2'}: left out: iteration 3 of 4" in notes


def test_the_difference_is_that_of_pairs(study: Path) -> None:
    """0.03 and 0.05 over seeds 0 and 1: t(0.975, 1) = 12.706, deviation 0.014142 / sqrt 2."""
    _, second = make_table([study], input_hw=SIZE_HW).rows
    found = second.difference
    assert found is not None and found.seeds == 2
    assert found.value == pytest.approx(0.04)
    assert found.high == pytest.approx(0.04 + 12.7062 * 0.01, abs=1e-5)
    assert paired_difference({0: 0.5, 1: 0.6}, {1: 0.7, 2: 0.1}) == (
        paired_difference({1: 0.6}, {1: 0.7})
    )
    assert paired_difference({0: 0.5}, {1: 0.7}) is None
    assert paired_difference({None: 0.5}, {None: 0.7}) is None


def test_a_seed_counts_once_and_a_run_without_evaluation_does_not(tmp_path: Path) -> None:
    for name, seed, scores in (("a", 0, [0.5]), ("b", 0, [0.5]), ("c", 1, [])):
        write_run(tmp_path / name, seed, scores)
    table = make_table([tmp_path / name for name in "abc"], input_hw=SIZE_HW)
    (row,) = table.rows
    assert row.scores == {0: 0.5} and row.deviation is None
    assert f"{tmp_path / 'b'}: left out: seed 0 counts once" in table.notes
    assert f"{tmp_path / 'c'}: left out: never evaluated" in table.notes


def test_last_and_other_protocols(study: Path) -> None:
    last, _ = make_table([study], score="last", input_hw=SIZE_HW).rows
    assert last.mean == pytest.approx(0.43)
    (note,) = [n for n in make_table([study], input_hw=SIZE_HW).notes if n.startswith("mIoU")]
    assert "chosen on the images that it is scored on" in note
    scaled, _ = make_table([study], protocol="scale_0.5", input_hw=SIZE_HW).rows
    assert scaled.mean == pytest.approx(0.53)
    with pytest.raises(UsageError, match="scale_7: no run has it"):
        make_table([study], protocol="scale_7", input_hw=SIZE_HW)


def test_rows_of_other_protocols_are_not_comparable(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", 0, [0.5])
    write_run(tmp_path / "half", 0, [0.6], test_config={"protocol": "scale_0.5"})
    notes = make_table([tmp_path / "whole", tmp_path / "half"], input_hw=SIZE_HW).notes
    assert "the protocols differ: these figures are not comparable" in notes


def test_markdown_has_equal_columns(study: Path) -> None:
    lines = [x for x in markdown_of(make_table([study], input_hw=SIZE_HW)).splitlines() if "|" in x]
    assert len({line.count("|") for line in lines}) == 1
    assert "| decay=1e-4 | TinyNet | 4 | 0.00 | 0.00 | 53.00 ± 3.61 | 3 | - |" in lines
    assert "| 55.00 ± 2.83 | 2 | +4.00 [-8.71, +16.71] (2 seeds) |" in lines[-1]


def test_csv_has_the_numbers_in_full(study: Path) -> None:
    first, second = csv.DictReader(io.StringIO(csv_of(make_table([study], input_hw=SIZE_HW))))
    assert float(first["miou_mean"]) == pytest.approx(0.53, abs=1e-12)
    assert (first["n"], first["seeds"], first["difference"]) == ("3", "0 1 2", "")
    assert first["multiply_adds_24x16"] == str(16 * 24 * (27 * 6 + 6 * 3))
    assert second["difference_seeds"] == "2"


def test_latex_is_read_by_a_parser(study: Path) -> None:
    """Strict: unknown environments, open groups and lone specials are errors."""
    (study / "decay=1e-4").rename(study / "a_b & 100%")
    text = latex_of(make_table([study], input_hw=SIZE_HW))
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    (tabular,) = [node for node in nodes if isinstance(node, LatexEnvironmentNode)]
    assert tabular.environmentname == "tabular"
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    assert {line.replace(r"\&", "").count("&") + 1 for line in rows} == {len(columns)}
    assert r"a\_b \& 100\% & TinyNet" in text and r"$\pm$" in text


def test_the_speed_is_of_the_exported_weights(study: Path, monkeypatch, tmp_path: Path) -> None:
    from paddleseg_ext.studies import table as module

    def of_run(folder: Path) -> list[Any]:
        return [type("Manifest", (), {"sha256": folder.parent.name + folder.name, "config": None})]

    monkeypatch.setattr(module, "newest_manifests", of_run)
    results = [
        {"checkpoint": "decay=1e-4seed_1", "stage": "paddle", "labels_ms": {"p50": 20.0}},
        {"checkpoint": "decay=5e-4seed_0", "stage": "paddle", "labels_ms": {"p50": 5.0}},
        {"checkpoint": None, "stage": "openvino", "labels_ms": {"p50": 5.0}},
    ]
    results[1]["parity"] = "FAILED"
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"machine": {"cpu": "A processor"}, "results": results}))
    table = make_table([study], input_hw=SIZE_HW, benches=[path])
    assert [row.speeds for row in table.rows] == [{"paddle": 50.0}, {}]
    assert "decay=5e-4: paddle: no speed, since its parity failed" in table.notes
    assert any("A processor" in note for note in table.notes)
    path.write_text('{"results": 3}')
    with pytest.raises(UsageError, match=r"bench\.json of bench is expected"):
        make_table([study], input_hw=SIZE_HW, benches=[path])


def test_runs_of_an_earlier_release_have_manifests_only(tmp_path: Path) -> None:
    from tiny_training import TinyNet

    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights

    run = write_run(tmp_path / "old", 0, [0.5])
    (run / "run.json").unlink()
    with pytest.raises(UsageError, match=r"neither run\.json nor a checkpoint"):
        find_runs(run)
    manifest = CheckpointManifest(
        config=tiny_config(tmp_path).raw,
        classes={"class_names": ["a", "b", "c"]},
        training={"seed": 7},
    )
    save_weights(TinyNet(3), run / "iter_4" / "model.pdparams", manifest)
    (row,) = make_table([run], input_hw=SIZE_HW).rows
    assert (row.scores, row.network, row.multiply_adds) == ({7: 0.5}, "TinyNet", 69120)


def test_the_command_writes_every_format(study: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"t.{suffix}" for suffix in ("md", "tex", "csv")]
    shape = ("--input_shape", 1, 3, *SIZE_HW)
    written = call("paddleseg_ext", "table", study, "--save_path", *files, *shape)
    assert written.status == 0, written.err
    assert all(file.stat().st_size > 100 for file in files)
    printed = call("paddleseg_ext", "table", study, *shape)
    assert printed.out.endswith(files[0].read_text())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["EMPTY"], "no run is in it"),
        (["STUDY", "--save_path", "table.xls"], "one of .md, .tex, .csv"),
        (["STUDY", "--bench", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], reason: str, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "STUDY": str(study)}
    words = [places.get(word, word) for word in arguments]
    found = call("paddleseg_ext", "table", *words, "--input_shape", 1, 3, *SIZE_HW)
    assert found.status == 2 and len(found.error_lines) == 1
    assert reason in found.error_lines[0]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"iters": 4', '"iters": "many"', "iters"),
        ('"num_classes": 3', '"num_classes": 999999999', "num_classes"),
        ('"num_classes": 3}', '"num_classes": 0}', "num_classes"),
        ('"seed": 0', '"seed": "x"', "seed"),
        ('"type": "TinyNet"', '"type": "TinyNt"', "TinyNt"),
        ('"type": "TinyNet"', '"type": "TinyNet", "norm": 99999999999', "a number up to"),
    ],
)
def test_a_damaged_record_costs_nothing_and_is_named(
    old: str, new: str, reason: str, tmp_path: Path
) -> None:
    record = write_run(tmp_path / "run", 0, [0.5]) / "run.json"
    assert old in record.read_text()
    record.write_text(record.read_text().replace(old, new))
    found = call("paddleseg_ext", "table", tmp_path / "run", "--input_shape", 1, 3, *SIZE_HW)
    assert "Traceback" not in found.err
    assert reason in found.err + found.out
