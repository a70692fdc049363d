"""`tune` records the runtime that `auto` is to take, beside verdict and speed."""

from pathlib import Path

import numpy as np

from paddleseg_ext.bench.tune import mark_preferred, taken_before
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.evaluation.turns import Measured
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, read_bundle, write_deploy_yaml
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.verified import Verified

JITTER = np.tile([0.97, 1.03], 6)


def record(engine: str, ratio: float, **more: object) -> Verified:
    version = ENGINES[engine].installed_version or ""
    values = {"version": version, "cpu": cpu_name(), "ratio": ratio, "num_images": 12} | more
    return Verified("identical", True, **values)  # type: ignore[arg-type]


def write(folder: Path, records: dict[str, Verified]) -> Bundle:
    (folder / "model.json").write_text("{}")
    (folder / "model.pdiparams").write_bytes(b"weights")
    manifest = Manifest("Network", generic_table(2), verified=records)
    write_deploy_yaml(folder, [], [-1, 3, -1, -1], "none", manifest)
    return read_bundle(folder)


def rounds(ms: dict[str, float]) -> list[Measured]:
    return [
        Measured(name, "fp32", list(value * (JITTER if i % 2 else JITTER[::-1])), True)
        for i, (name, value) in enumerate(ms.items())
    ]


def test_auto_keeps_what_it_took_while_the_fastest_is_no_faster(tmp_path: Path) -> None:
    """Ratios 20% apart by chance; in the rounds they are equal."""
    records = {"paddle": record("paddle", 1.0), "paddle_onednn": record("paddle_onednn", 1.2)}
    bundle = write(tmp_path, records)
    assert choose_runtime(bundle)[0].name == "paddle_onednn"
    assert taken_before(bundle, "fp32") == "paddle_onednn"
    assert taken_before(bundle, "int8") == ""
    equal = rounds({"paddle": 40.0, "paddle_onednn": 40.4})
    now = {"paddle": record("paddle", 1.0), "paddle_onednn": record("paddle_onednn", 0.7)}
    write(tmp_path, now)
    marked = mark_preferred(read_bundle(tmp_path), now, equal, {"fp32": "paddle_onednn"})
    assert {name: found.preferred for name, found in marked.items()} == {
        "paddle": None,
        "paddle_onednn": True,
    }
    assert choose_runtime(read_bundle(tmp_path))[0].name == "paddle_onednn"
    faster = rounds({"paddle": 30.0, "paddle_onednn": 40.4})
    mark_preferred(read_bundle(tmp_path), now, faster, {"fp32": "paddle_onednn"})
    assert choose_runtime(read_bundle(tmp_path))[0].name == "paddle"


def test_where_sizes_change_the_recorded_speed_decides(tmp_path: Path) -> None:
    """The rounds say nothing of what a new size costs."""
    records = {
        "paddle": record("paddle", 1.0, new_size_share=1.0),
        "paddle_onednn": record("paddle_onednn", 0.5, new_size_share=1.0),
    }
    bundle = write(tmp_path, records)
    fast = rounds({"paddle": 40.0, "paddle_onednn": 20.0})
    marked = mark_preferred(bundle, records, fast, {"fp32": ""})
    assert not any(found.preferred for found in marked.values())
    assert choose_runtime(read_bundle(tmp_path))[0].name == "paddle"


def test_a_preference_holds_on_its_processor_only(tmp_path: Path) -> None:
    records = {
        "paddle": record("paddle", 1.0, preferred=True, cpu="of another machine"),
        "paddle_onednn": record("paddle_onednn", 2.0),
    }
    assert choose_runtime(write(tmp_path, records))[0].name == "paddle_onednn"
