"""Checkpoints: `.pdparams` as everywhere in Paddle, and beside it a JSON manifest.

The two are two files, and a kill may fall between their renames. So the manifest is written first
and keeps the record that it replaces as `previous`. The record with the sha256 of the weights is
the one that counts, and at every moment there is one.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.checkpoints.manifest import CheckpointManifest, read_manifest
from paddleseg_ext.checkpoints.pickles import (
    Allowance,
    ArrayRecord,
    damage_is_one_line,
    load_restricted,
)
from paddleseg_ext.common.errors import UsageError, cut, shortened
from paddleseg_ext.common.file_kinds import CHECKPOINT, LEGACY_TORCH_MAGIC, ZIP_MAGIC, kind_of
from paddleseg_ext.common.files import atomic_path, require_file, sha256_of

if TYPE_CHECKING:
    from paddle import nn

_SAME_NETWORK = "Network, class count and options must be those of the checkpoint"
# Paddle adds this entry to a saved state dict: structured name -> parameter name.
_NAME_TABLE = "StructuredToParameterName@@"
_VARIANCES = ("._variance", ".running_var")  # of batch norms
# Entries of a saved optimizer: the schedule's counters, and float32 copies of float16 weights.
_SCHEDULE, MASTER_WEIGHTS = "LR_Scheduler", "master_weights"


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a `.pdparams` or `.pdopt` file by name; nothing in the file is executed.

    The schedule's counters in an optimizer's state are left out, and its `master_weights` have
    names such as `master_weights/conv2d_0.w_0`.

    Raises:
        UsageError: the file is missing, empty, damaged or unsafe, or contains something else.
    """
    content = _read_dict(require_file(path, "checkpoint"))
    masters = content.pop(MASTER_WEIGHTS, {})
    if isinstance(masters, dict):
        content |= {f"{MASTER_WEIGHTS}/{name}": value for name, value in masters.items()}
    allowance = Allowance(str(path), Path(path).stat().st_size)
    arrays = {}
    for name, value in content.items():
        if name in (_NAME_TABLE, _SCHEDULE):
            continue
        # Paddle 2.0 and older wrote a tensor as (name, array).
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if not isinstance(name, str) or not isinstance(value, ArrayRecord):
            raise UsageError(
                f"{path}: '{cut(str(name))}' is not an array but a {type(value).__name__}"
            )
        with damage_is_one_line(f"{path}: '{cut(name)}'"):
            arrays[name] = value.to_array(allowance)
    return arrays


def read_parameter_names(path: str | Path) -> dict[str, str]:
    """Parameter name -> structured name, such as `conv2d_0.w_0` -> `stem.conv.weight`.

    A `.pdparams` has both where Paddle saved a network's state dict; else the result is empty.

    Raises:
        UsageError: as `read_arrays`.
    """
    table = _read_dict(require_file(path, "checkpoint")).get(_NAME_TABLE, {})
    if not isinstance(table, Mapping):
        return {}
    return {str(parameter): str(structured) for structured, parameter in table.items()}


def _read_dict(path: Path) -> dict[Any, Any]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        if head.startswith((ZIP_MAGIC, LEGACY_TORCH_MAGIC)) or head[7:9] == b"\0{":
            raise UsageError(
                f"{path}: a .pdparams is expected, got a file of PyTorch, NumPy or safetensors; "
                f"convert it: paddleseg-ext import --from auto --weights {path} ..."
            )
        if (kind := kind_of(path)) not in ("", CHECKPOINT):
            raise UsageError(f"{path}: a checkpoint is expected, this is {kind}")
        file.seek(0)
        content = load_restricted(file, str(path), size)
    if not isinstance(content, Mapping):
        raise UsageError(
            f"{path}: a dict of arrays is expected, the file contains a {type(content).__name__}"
        )
    return dict(content)


def require_finite(arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Raise `UsageError` where a tensor has NaN, infinity or a variance below 0.

    A network computes with them, ReLU hides the NaN, and its label maps look like any others.
    """
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    wrong = [name for name, array in floats.items() if not np.isfinite(array).all()]
    negative = [n for n, array in floats.items() if n.endswith(_VARIANCES) and (array < 0).any()]
    if wrong or negative:
        what = "NaN or infinite values" if wrong else "variances below 0"
        raise UsageError(
            f"{source}: {shortened(wrong or negative)}: {what}; the file is damaged, or the "
            "training diverged: take an earlier checkpoint"
        )


@dataclass
class LoadReport:
    """Numbers and names of a checkpoint's tensors that were loaded or not."""

    loaded: int
    total: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was loaded and none is left over."""
        return not (self.missing or self.unexpected or self.misshapen)

    def describe(self) -> str:
        """`loaded 218 of 218 tensors`, and the names that did not fit."""
        parts = [f"loaded {self.loaded} of {self.total} tensors"]
        for what in ("missing", "unexpected", "misshapen"):
            if names := getattr(self, what):
                parts.append(f"{what}: {shortened(names)}")
        return "; ".join(parts)


def load_arrays_into(
    model: "nn.Layer", arrays: Mapping[str, np.ndarray], source: str, strict: bool = True
) -> LoadReport:
    """Copy arrays into a network by name. With `strict`, all are copied or none.

    Raises:
        UsageError: `strict` and a name is missing, unexpected, misshapen or of another kind of
            number (the message lists them), no array fits, or one that does holds NaN or the like.
    """
    state = model.state_dict()
    fitting, misshapen = {}, []
    for name, array in arrays.items():
        if name not in state:
            continue
        if list(array.shape) != list(state[name].shape):
            misshapen.append(f"{name} {list(array.shape)} instead of {list(state[name].shape)}")
        # A cast would turn text into numbers, and Paddle's bfloat16 (bits in a uint16) into wrong
        # ones.
        elif state[name].is_floating_point() and array.dtype.kind != "f":
            misshapen.append(f"{name} of {array.dtype} instead of {_numpy_dtype(state[name])}")
        else:
            fitting[name] = array
    report = LoadReport(
        loaded=len(fitting),
        total=len(state),
        missing=[name for name in state if name not in arrays],
        unexpected=[name for name in arrays if name not in state],
        misshapen=misshapen,
    )
    if not fitting or (strict and not report.complete):
        raise UsageError(
            f"{source} does not fit {type(model).__name__}: {report.describe()}. "
            f"{remedy_for(state, arrays) or _SAME_NETWORK}"
        )
    require_finite(fitting, source)
    for name, array in fitting.items():
        state[name].set_value(np.ascontiguousarray(array).astype(_numpy_dtype(state[name])))
    return report


def remedy_for(state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Advice for arrays whose names fit a network apart from a prefix; empty for all others.

    Args:
        state: the network's tensors by name.
        arrays: of a checkpoint that does not fit it.
    """
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}

    def num_fitting(renamed: Iterable[tuple[str, str]]) -> int:
        return sum(shapes.get(new) == list(arrays[name].shape) for name, new in renamed)

    for prefix in sorted({name.split(".")[0] + "." for name in arrays}):
        inner = [(name, name.removeprefix(prefix)) for name in arrays if name.startswith(prefix)]
        if num_fitting(inner) * 2 <= max(len(inner), num_fitting((n, n) for n in arrays)):
            continue
        if len(inner) == len(arrays):
            return (
                f"Every name of the file begins with '{prefix}': convert it with "
                "paddleseg-ext import --from auto --weights FILE, which takes the prefix off"
            )
        return (
            f"Its tensors '{prefix}*' are those that are wanted here: it is the file of a whole "
            "network; start from it with --finetune FILE, or --opts pretrained=FILE"
        )
    for prefix in sorted({name.split(".")[0] for name in shapes if "." in name}):
        if num_fitting((name, f"{prefix}.{name}") for name in arrays) * 2 > len(arrays):
            return (
                f"These are the tensors of the network's {prefix} alone: give the file with "
                f"--opts model.{prefix}.pretrained=FILE, and train"
            )
    return ""


def _numpy_dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("paddle.")


def load_into(model: "nn.Layer", path: str | Path, strict: bool = True) -> LoadReport:
    """Load `path` into `model` with the checks of `load_arrays_into` and `read_manifest`."""
    path = Path(path)
    arrays = read_arrays(path)
    read_manifest(path)
    return load_arrays_into(model, arrays, str(path), strict)


def weights_of(model: "nn.Layer") -> dict[str, np.ndarray]:
    """Tensors of a network by name, as they are saved."""
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def save_weights(
    model: "nn.Layer", path: str | Path, manifest: CheckpointManifest = CheckpointManifest()
) -> None:
    """Write a network's weights; see `save_arrays`."""
    save_arrays(weights_of(model), path, manifest)


def save_arrays(
    arrays: Mapping[str, np.ndarray], path: str | Path, manifest: CheckpointManifest
) -> None:
    """Write weights and manifest so that a kill at any moment leaves a matching pair.

    Arrays, not tensors: with tensors Paddle adds a table of names that count the layers of the
    process, and equal weights would not give equal files.
    """
    import paddle

    path = Path(path)
    with atomic_path(path) as temporary:
        paddle.save(dict(arrays), str(temporary))
        manifest = replace(manifest, sha256=sha256_of(temporary))
        if path.exists():
            # The replaced file may be damaged; after the rename it is not read again.
            with suppress(UsageError):
                manifest = replace(manifest, previous=asdict(read_manifest(path)))
        manifest.write(path)
