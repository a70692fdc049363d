"""Reads checkpoint files of other systems without their libraries and without executing anything.

The content decides the format, not the name: PyTorch's zip format (1.6 and later) and its format
before that, safetensors, NumPy's npz, Paddle's pdparams. PyTorch's two are pickles beside raw
buffers. The restricted unpickler reads the pickle and builds nothing but containers and the
descriptions of tensors below.

Source: the formats are those of torch/serialization.py and of
https://github.com/huggingface/safetensors#format; both were checked against files that PyTorch
2.13 and safetensors 0.8 wrote.
"""

import json
import math
import os
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from paddleseg_ext.checkpoints.pickles import NUMPY_GLOBALS, load_restricted
from paddleseg_ext.checkpoints.store import LEGACY_TORCH_MAGIC, ZIP_MAGIC, read_arrays
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file

# Keys under which training scripts save the state dict, beside optimizer, epoch and others.
WRAPPERS = ("state_dict", "model", "model_state_dict")
# NumPy has no bfloat16: its bytes are the upper half of a float32's.
_BFLOAT16 = "bfloat16"
# PyTorch's class of a storage, safetensors' name of the type, NumPy's.
_TYPES = (
    ("DoubleStorage", "F64", "<f8"),
    ("FloatStorage", "F32", "<f4"),
    ("HalfStorage", "F16", "<f2"),
    ("BFloat16Storage", "BF16", _BFLOAT16),
    ("LongStorage", "I64", "<i8"),
    ("IntStorage", "I32", "<i4"),
    ("ShortStorage", "I16", "<i2"),
    ("CharStorage", "I8", "<i1"),
    ("ByteStorage", "U8", "<u1"),
    ("BoolStorage", "BOOL", "|b1"),
)
_STORAGES = {storage: dtype for storage, _, dtype in _TYPES}
_SAFETENSORS = {name: dtype for _, name, dtype in _TYPES}


def read_published(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors of a checkpoint by name, without a wrapper and without the prefix `module.`.

    Raises:
        UsageError: the file is missing, damaged or unsafe, or it contains no tensors.
    """
    path = require_file(path, "--weights")
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(ZIP_MAGIC):
        content = _read_zip(path)
    elif head.startswith(LEGACY_TORCH_MAGIC):
        content = _read_legacy(path)
    elif head[8:9] == b"{":
        content = _read_safetensors(path)
    else:
        content = read_arrays(path)
    return _state_dict(content, str(path))


def _state_dict(content: Any, source: str) -> dict[str, np.ndarray]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise UsageError(
            f"{source}: a dict of tensors is expected, at the top or under one of "
            f"{', '.join(WRAPPERS)}; the file contains a {type(content).__name__}"
        )
    if all(isinstance(value, Mapping) for value in content.values()):  # one dict per module
        content = {f"{k}.{name}": v for k, part in content.items() for name, v in part.items()}
    arrays = {}
    for key, value in content.items():
        if isinstance(value, _Tensor):
            value = value.to_array(source, str(key))
        if not isinstance(key, str) or not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise UsageError(f"{source}: '{key}' is not a tensor but a {type(value).__name__}")
        arrays[key] = value
    if all(key.startswith("module.") for key in arrays):  # saved from DataParallel
        arrays = {key.removeprefix("module."): array for key, array in arrays.items()}
    return arrays


# --- PyTorch ------------------------------------------------------------------------------------


@dataclass
class _Storage:
    """A buffer that tensors are views of; in legacy files its bytes follow the pickle."""

    dtype: str
    count: int
    data: bytes | None = None


@dataclass
class _Tensor:
    """A view of a storage, in elements; `to_array` needs the storage's bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def to_array(self, source: str, key: str) -> np.ndarray:
        """A contiguous copy.

        Raises:
            UsageError: the view reaches outside its storage.
        """
        data = self.storage.data
        numbers = (self.offset, *self.shape, *self.strides)
        if data is None or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise UsageError(f"{source}: '{key}' is damaged")
        flat = _buffer_to_array(data, self.storage.dtype)
        if len(self.shape) != len(self.strides):
            raise UsageError(f"{source}: '{key}' is damaged")
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.empty(self.shape, flat.dtype)
        # A stride of 0 would let a small file ask for any amount of memory.
        if self.offset + last >= flat.size or math.prod(self.shape) > flat.size:
            raise UsageError(f"{source}: '{key}' reaches outside its data: the file is damaged")
        view = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, [s * flat.itemsize for s in self.strides]
        )
        return np.array(view)


def _buffer_to_array(data: bytes, dtype: str) -> np.ndarray:
    if dtype == _BFLOAT16:
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, dtype)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Any, strides: Any, *_rest: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: _Tensor, *_rest: Any) -> _Tensor:
    return tensor


TORCH_GLOBALS = {
    **NUMPY_GLOBALS,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *name: name,
    ("collections", "defaultdict"): lambda *_factory: OrderedDict(),
    **{("torch", name): name for name in _STORAGES},
    **{("torch.cuda", name): name for name in _STORAGES},
}


def _make_storage(persistent_id: Any) -> _Storage:
    kind, storage_type, _, _, count, *_ = persistent_id
    if kind != "storage" or storage_type not in _STORAGES or not isinstance(count, int):
        raise ValueError(f"an unknown reference {persistent_id!r}")
    return _Storage(_STORAGES[storage_type], count)


def _read_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if all(name.endswith(".npy") for name in names):
                return _read_npz(path)
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise UsageError(
                    f"{path}: a zip file, but neither a PyTorch checkpoint (no data.pkl) nor an npz"
                )
            # PyTorch never compresses. A small compressed file could fill the memory.
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise UsageError(f"{path}: a compressed zip file, which PyTorch does not write")
            return _read_torch_zip(archive, pickles[0].removesuffix("data.pkl"), str(path))
    except UsageError:
        raise
    except Exception as error:  # zipfile and its decompressors raise anything on damaged files
        raise UsageError(
            f"{path}: damaged or cut short ({type(error).__name__}: {error})"
        ) from None


def _read_torch_zip(archive: zipfile.ZipFile, root: str, source: str) -> Any:
    byteorder = f"{root}byteorder"
    if byteorder in archive.namelist() and archive.read(byteorder) != b"little":
        raise UsageError(f"{source}: written on a big-endian machine; this is not supported")
    storages: dict[str, _Storage] = {}

    def load_storage(persistent_id: Any) -> _Storage:
        key = str(persistent_id[2])
        if key not in storages:
            storages[key] = _make_storage(persistent_id)
            storages[key].data = archive.read(f"{root}data/{key}")
        return storages[key]

    with archive.open(f"{root}data.pkl") as file:
        return load_restricted(file, source, TORCH_GLOBALS, load_storage)


def _read_legacy(path: Path) -> Any:
    source = str(path)
    storages: dict[str, _Storage] = {}

    def load_storage(persistent_id: Any) -> _Storage:
        if persistent_id[5:] not in ((), (None,)):
            raise ValueError("views of storages, as before PyTorch 0.4, are not supported")
        return storages.setdefault(str(persistent_id[2]), _make_storage(persistent_id))

    with open(path, "rb") as file:
        for _ in range(3):  # magic number, protocol version, properties of the machine
            load_restricted(file, source, {})
        content = load_restricted(file, source, TORCH_GLOBALS, load_storage)
        for key in load_restricted(file, source, {}):
            _read_legacy_storage(file, storages.get(str(key)), source)
    return content


def _read_legacy_storage(file: IO[bytes], storage: _Storage | None, source: str) -> None:
    count = int.from_bytes(file.read(8), "little", signed=True)
    if storage is None or count != storage.count:
        raise UsageError(f"{source}: damaged: the data of a tensor are missing")
    itemsize = 2 if storage.dtype == _BFLOAT16 else np.dtype(storage.dtype).itemsize
    remaining = os.fstat(file.fileno()).st_size - file.tell()
    if not 0 <= count * itemsize <= remaining:
        raise UsageError(f"{source}: cut short: the file ends within a tensor")
    storage.data = file.read(count * itemsize)


# --- npz and safetensors ------------------------------------------------------------------------


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise UsageError(f"{path}: not a readable npz file of plain arrays: {error}") from None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {
            name: _read_safetensor(entry, memoryview(data)[8 + length :])
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable safetensors file: {error}") from None


def _read_safetensor(entry: Mapping[str, Any], buffer: memoryview) -> np.ndarray:
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(buffer):
        raise ValueError("a tensor lies outside the file")
    array = _buffer_to_array(bytes(buffer[begin:end]), _SAFETENSORS[entry["dtype"]])
    return array.reshape(entry["shape"])
