"""Negative controls: the comparison is shown faults that it must notice.

A comparison that passes everything proves nothing. So a copy of the bundle is tampered with, in
the ways in which deployments go wrong, and run on the first images like any other candidate. A
control is caught when its run fails, by its label maps and counts; hashes play no part.
"""

import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.parity.compare import Candidate, Outcome, describe, run_candidate
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.static_graph import StaticGraph
from paddleseg_ext.scoring.verdict import FAILED, judge_counts

CONTROL_IMAGES = 2
# How far the changed weight lies outside its tensor: a flipped high bit, not a rounding.
WEIGHT_FACTOR = 100.0

_FLOAT32 = 5  # of Paddle's VarType
_DTYPE_TAG, _DIMS_TAG = 0x08, 0x10  # fields 1 and 2 of TensorDesc, as varints


@dataclass(frozen=True)
class Control:
    """One fault and whether it was noticed; `caught` is None where it can show nothing here."""

    name: str
    caught: bool | None
    summary: str


def run_controls(bundle: Bundle, reference: Reference, work: Path) -> list[Control]:
    """Make every fault, run it on the first images, and see whether it is noticed.

    Args:
        bundle: the sound one; it is copied.
        reference: of the same network.
        work: an empty folder, for the copies.
    """
    faults: dict[str, Callable[[Path], str]] = {
        "one weight changed": change_one_weight,
        "Normalize dropped": drop_normalize,
        "red and blue swapped": swap_channels,
    }
    controls = []
    for number, (name, tamper) in enumerate(faults.items()):
        folder = work / str(number)
        _copy(bundle, folder)
        obstacle = tamper(folder)
        if obstacle:
            controls.append(Control(name, None, obstacle))
            continue
        copy = read_bundle(folder / bundle.deploy_file.name)
        candidate = Candidate(f"control: {name}", "control", _loader(copy))
        outcome = run_candidate(candidate, copy, reference.first(CONTROL_IMAGES))
        controls.append(_judge(name, outcome, reference))
        shutil.rmtree(folder)
    controls.append(_shift_labels(reference))
    for control in controls:
        state = {True: "caught", False: "NOT CAUGHT", None: "shows nothing"}[control.caught]
        log(f"[PARITY] control '{control.name}': {state}: {control.summary}")
    return controls


def _loader(bundle: Bundle) -> Callable[[], StaticGraph]:
    return lambda: StaticGraph(bundle)


def _copy(bundle: Bundle, folder: Path) -> None:
    folder.mkdir()
    for file in bundle.files:
        shutil.copy(file, folder / file.name)


def _judge(name: str, outcome: Outcome, reference: Reference) -> Control:
    """Caught: the run failed because pixels differ, not because it could not be run.

    A network that predicts one class everywhere shows few faults; that is said, not failed.
    """
    verdict = outcome.verdict
    caught = verdict is not None and verdict.grade == FAILED and verdict.num_different > 0
    if not caught and reference.one_sided():
        return Control(name, None, reference.one_sided())
    return Control(name, caught, describe(outcome))


def change_one_weight(folder: Path) -> str:
    """Set one weight of the first convolution in the file far outside its tensor."""
    path = next(folder.glob("*.pdiparams"))
    content = bytearray(path.read_bytes())
    for dims, start, stop in float_tensors(content):
        if len(dims) == 4:
            values = np.frombuffer(content[start:stop], np.float32)
            wrong = np.float32(WEIGHT_FACTOR * np.abs(values).max())
            content[start : start + 4] = wrong.tobytes()
            path.write_bytes(content)
            return ""
    return f"{path.name} holds no float32 convolution"


def drop_normalize(folder: Path) -> str:
    """Remove `Normalize` from the transforms."""
    path = folder / "deploy.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    transforms = content["Deploy"].get("transforms") or []
    kept = [t for t in transforms if t.get("type") != "Normalize"]
    if len(kept) == len(transforms):
        return "the bundle has no Normalize"
    content["Deploy"]["transforms"] = kept
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return ""


def swap_channels(folder: Path) -> str:
    """Say BGR where the bundle says RGB, or the other way round."""
    path = folder / "deploy.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "Manifest" not in content:
        return "the bundle has no manifest that names the order"
    preprocess: dict[str, Any] = content["Manifest"]["preprocess"]
    preprocess["color_order"] = "BGR" if preprocess["color_order"] == "RGB" else "RGB"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return ""


def _shift_labels(reference: Reference) -> Control:
    """Labels read through a table that is off by one, predictions as they are."""
    name = "label table shifted by one"
    if reference.counts is None:
        return Control(name, None, "the images have no labels")
    shifted = np.roll(reference.counts, 1, axis=0)
    verdict = judge_counts(
        reference.counts, shifted, reference.table.class_names, len(reference.samples)
    )
    return Control(name, verdict.grade == FAILED, verdict.summary())


def float_tensors(content: bytes | bytearray) -> Iterator[tuple[list[int], int, int]]:
    """Shape and byte range of every float32 tensor of a `.pdiparams` file.

    Raises:
        UsageError: it has another form.

    Source: PaddlePaddle `lod_tensor.cc`, `SerializeToStream`: version, LoD, version, length of a
    TensorDesc, TensorDesc, data; one after the other.
    """
    sizes = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, _FLOAT32: 4, 6: 8, 20: 1, 21: 1, 22: 2}
    place = 0
    while place < len(content):
        try:
            _, levels = struct.unpack_from("<IQ", content, place)
            place += 12
            for _ in range(levels):
                place += 8 + struct.unpack_from("<Q", content, place)[0]
            length = struct.unpack_from("<4xi", content, place)[0]
            place += 8
            dtype, dims = _read_tensor_desc(content[place : place + length])
            place += length
            stop = place + int(np.prod(dims, dtype=np.int64)) * sizes[dtype]
        except (struct.error, KeyError, IndexError):
            raise UsageError(f"not a .pdiparams file: nothing readable at byte {place}") from None
        if dtype == _FLOAT32:
            yield dims, place, stop
        place = stop


def _read_tensor_desc(text: bytes | bytearray) -> tuple[int, list[int]]:
    """Type and shape of a serialised TensorDesc."""
    dtype, dims, place = -1, [], 0
    while place < len(text):
        tag, place = text[place], place + 1
        value, shift = 0, 0
        while True:
            byte, place = text[place], place + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag == _DTYPE_TAG:
            dtype = value
        elif tag == _DIMS_TAG:
            dims.append(value)
    return dtype, dims
