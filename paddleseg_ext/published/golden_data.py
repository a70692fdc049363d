"""Weights, inputs and stored numbers of golden cases.

A case stores no weights. Each tensor of the original's checkpoint is generated from its key, its
shape and a seed, so that the names are enough to rebuild the file. The digest in meta.json
distinguishes a wrong generator from a wrong network.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError

TENSORFLOW_GENERATOR = "fixture_tf.make_state_dict"
# Outputs are stored at about this many rows and columns, the last ones included.
_STORED_LINES = 32


@dataclass(frozen=True)
class GoldenCase:
    """One folder: description of the run (meta), its tensors (manifest) and results (expected)."""

    directory: Path
    meta: Mapping[str, Any]
    manifest: Sequence[Sequence[Any]]
    expected: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        """The case's name in its meta.json."""
        return self.meta["case"]

    @property
    def kind(self) -> str:
        """`network`, `loss`, `evaluation` or `schedule`."""
        return self.meta["kind"]


def read_case(directory: Path) -> GoldenCase:
    """Read a case.

    Raises:
        UsageError: a file is missing or damaged.
    """
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        manifest_path = directory / "manifest.json"
        manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else []
        with np.load(directory / "expected.npz", allow_pickle=False) as stored:
            expected = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{directory}: not a readable golden case: {error}") from None
    return GoldenCase(directory, meta, manifest, expected)


def find_cases(directory: Path) -> list[Path]:
    """Folders under `directory` that contain a case, in order of their names.

    Raises:
        UsageError: there is none.
    """
    cases = sorted(path.parent for path in directory.glob("**/meta.json"))
    if not cases:
        raise UsageError(f"'{directory}' contains no golden cases (folders with a meta.json)")
    return cases


def make_state_dict(case: GoldenCase) -> dict[str, np.ndarray]:
    """The original's checkpoint: every tensor of the manifest, generated from its name.

    Raises:
        UsageError: the digest differs from the one in meta.json.
    """
    seed = int(case.meta["weights"]["seed"])
    tensorflow = case.meta["weights"].get("generator") == TENSORFLOW_GENERATOR
    make = _make_variable if tensorflow else _make_tensor
    state: dict[str, np.ndarray] = {}
    for key, shape, dtype, *flags in case.manifest:
        options = flags[0] if flags else {}
        if "alias_of" in options:  # two names of one tensor
            state[key] = state[options["alias_of"]]
        else:
            state[key] = make(key, tuple(shape), dtype, options, seed)
    stated = case.meta["weights"].get("sha256")
    if stated and stated != _digest(state.values()):
        raise UsageError(f"{case.name}: the generated weights have another digest than meta.json")
    return state


def make_input(case: GoldenCase) -> np.ndarray:
    """Images of the case, (N, 3, H, W) float32, standard normal."""
    spec = case.meta["input"]
    generator = np.random.default_rng([0x1F0, int(spec["seed"])])
    return generator.standard_normal(tuple(spec["shape"])).astype(np.float32)


def stored_part(output: np.ndarray) -> np.ndarray:
    """Rows and columns of an (N, C, H, W) output that a case stores."""
    rows, columns = (_stored_lines(size) for size in output.shape[2:])
    return output[:, :, rows][:, :, :, columns]


def _stored_lines(size: int) -> np.ndarray:
    step = max(1, -(-size // _STORED_LINES))
    return np.unique([*range(0, size, step), size - 1])


def _make_tensor(
    key: str, shape: tuple[int, ...], dtype: str, flags: Mapping[str, Any], seed: int
) -> np.ndarray:
    generator = np.random.default_rng([zlib.crc32(key.encode()), seed])
    # `scale` keeps activations of deep stacks at unit scale, so that no sigmoid hides an error.
    scale = flags.get("scale", 1.0)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith(("running_mean", "bias")):
        values = 0.1 * generator.standard_normal(shape) * np.sqrt(scale)
    elif key.endswith("running_var"):
        values = generator.uniform(0.5, 1.5, shape) * scale
    elif len(shape) == 1:
        values = generator.uniform(0.5, 1.5, shape)
        if flags.get("signed_gamma"):
            values *= 2.0 * generator.integers(0, 2, shape) - 1.0
    else:
        values = generator.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    return values.astype(dtype)


def _make_variable(
    key: str, shape: tuple[int, ...], dtype: str, flags: Mapping[str, Any], seed: int
) -> np.ndarray:
    """A variable of a TensorFlow checkpoint; `fan_in` is stated, for its layouts differ."""
    generator = np.random.default_rng([zlib.crc32(key.encode()), seed])
    scale = flags.get("scale", 1.0)
    leaf = key.rpartition("/")[2]
    if leaf in ("moving_mean", "beta", "b", "bias"):
        values = 0.1 * generator.standard_normal(shape)
        values *= np.sqrt(scale) if leaf == "moving_mean" else 1.0
    elif leaf in ("moving_variance", "gamma"):
        values = generator.uniform(0.5, 1.5, shape)
        values *= scale if leaf == "moving_variance" else 1.0
    else:
        values = generator.standard_normal(shape) * np.sqrt(2.0 / flags["fan_in"])
    return values.astype(dtype)


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
