"""Reads checkpoint files of other systems without their libraries and without executing anything.

The content decides the format, not the name: PyTorch's zip format (1.6 and later) and its format
before that, safetensors, NumPy's npz, Paddle's pdparams. TensorFlow's files are known by their
names (`tensorflow_files`). PyTorch's two are pickles beside raw
buffers. The restricted unpickler reads the pickle and builds nothing but containers and the
descriptions of tensors below.

Source: the formats are those of torch/serialization.py and of
https://github.com/huggingface/safetensors#format; both were checked against files that PyTorch
2.13 and safetensors 0.8 wrote.
"""

import io
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from paddleseg_ext.checkpoints.pickles import (
    NUMPY_GLOBALS,
    Allowance,
    ArrayRecord,
    damage_is_one_line,
    load_restricted,
    require_sizes,
)
from paddleseg_ext.checkpoints.store import read_arrays
from paddleseg_ext.common.errors import UsageError, cut
from paddleseg_ext.common.file_kinds import LEGACY_TORCH_MAGIC, ZIP_MAGIC
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.json_files import parse_json
from paddleseg_ext.published.tensorflow_files import index_of, is_tensorflow, read_tensorflow

# Keys under which training scripts save the state dict, beside optimizer, epoch and others.
WRAPPERS = ("state_dict", "model", "model_state_dict")
# What DataParallel, a training class around the network, and torch.compile put before every name.
PREFIXES = ("module.", "model.", "_orig_mod.")
# Files of a zip that torch.jit.save writes, and torch.save does not.
_TORCHSCRIPT = ("/constants.pkl", "/code/__torch__.py")
MOST_HEADER = 8 << 20  # bytes of a safetensors header; one of 1000 tensors has 100,000
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
    """Tensors of a checkpoint by name, without its wrapper and what that puts before every name.

    Raises:
        UsageError: the file is missing, damaged or unsafe, or it contains no tensors.
    """
    if is_tensorflow(Path(path)):
        return read_tensorflow(require_file(published_file(path), "--weights"))
    path = require_file(path, "--weights")
    source, allowance = str(path), Allowance(str(path), path.stat().st_size)
    with open(path, "rb") as file:
        head = file.read(16)
    with damage_is_one_line(source):
        if head.startswith(ZIP_MAGIC):
            content = _read_zip(path, allowance)
        elif head.startswith(LEGACY_TORCH_MAGIC):
            content = _read_legacy(path)
        elif head[8:9] == b"{":
            content = _read_safetensors(path, allowance)
        else:
            content = read_arrays(path)
        return _state_dict(content, source, allowance)


def published_file(path: str | Path) -> Path:
    """The file that identifies a checkpoint: the index where `path` is TensorFlow's prefix."""
    path = Path(path)
    return index_of(path) if is_tensorflow(path) and path.suffix != ".pb" else path


def _state_dict(content: Any, source: str, allowance: Allowance) -> dict[str, np.ndarray]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if isinstance(content, Mapping) and all(isinstance(v, Mapping) for v in content.values()):
        # one dict per module
        content = {f"{k}.{name}": v for k, part in content.items() for name, v in part.items()}
    if not isinstance(content, Mapping) or not content:
        raise UsageError(
            f"{source}: a dict of tensors is expected, at the top or under one of "
            f"{', '.join(WRAPPERS)}; the file contains a {type(content).__name__}"
        )
    arrays = {}
    for key, value in content.items():
        named = f"{source}: '{cut(str(key))}'"
        if isinstance(value, _Tensor | ArrayRecord):
            with damage_is_one_line(named):
                value = value.to_array(allowance)
        if not isinstance(key, str) or not isinstance(value, np.ndarray):
            raise UsageError(f"{named} is not a tensor but a {type(value).__name__}")
        arrays[key] = value
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in arrays)), ""):
        arrays = {key.removeprefix(prefix): array for key, array in arrays.items()}
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
    """A view of a storage, in elements, as the file has it; `to_array` checks it."""

    storage: _Storage
    offset: int
    shape: Any
    strides: Any

    def to_array(self, allowance: Allowance) -> np.ndarray:
        """A contiguous copy.

        Raises:
            ValueError: the view reaches outside its storage, or is described by no numbers.
        """
        if not isinstance(self.storage, _Storage) or self.storage.data is None:
            raise ValueError("its data are missing")
        shape, strides = require_sizes(self.shape), require_sizes(self.strides)
        (offset,) = require_sizes([self.offset])
        data, dtype = self.storage.data, self.storage.dtype
        itemsize = _itemsize(dtype)
        count = len(data) // itemsize
        size = math.prod(shape)
        last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        # A stride of 0 would let a small file ask for any amount of memory.
        if size and (offset + last >= count or size > count):
            raise ValueError("it reaches outside its data")
        allowance.take(size * max(itemsize, np.dtype(_read_as(dtype)).itemsize))
        flat = np.frombuffer(data, "<u2" if dtype == _BFLOAT16 else dtype, count)
        if not size:
            return np.empty(shape, _read_as(dtype))
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], shape, [s * itemsize for s in strides]
        )
        return _widened(view, dtype)


def _itemsize(dtype: str) -> int:
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def _read_as(dtype: str) -> str:
    return "<f4" if dtype == _BFLOAT16 else dtype


def _widened(stored: np.ndarray, dtype: str) -> np.ndarray:
    """A contiguous copy, bfloat16 as float32."""
    if dtype == _BFLOAT16:
        return (np.array(stored, "<u4") << 16).view("<f4")
    return np.array(stored)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Any, strides: Any, *_rest: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: _Tensor, *_rest: Any) -> _Tensor:
    return tensor


TORCH_GLOBALS = {
    **NUMPY_GLOBALS,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *name: name,
    ("collections", "defaultdict"): lambda *_factory: {},
    **{("torch", name): name for name in _STORAGES},
    **{("torch.cuda", name): name for name in _STORAGES},
}


def _make_storage(persistent_id: Any) -> _Storage:
    kind, storage_type, _, _, count, *_ = persistent_id
    is_known = isinstance(storage_type, str) and storage_type in _STORAGES
    if kind != "storage" or not is_known or type(count) is not int or count < 0:
        raise ValueError("an unknown reference instead of a storage")
    return _Storage(_STORAGES[storage_type], count)


def _read_zip(path: Path, allowance: Allowance) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith(_TORCHSCRIPT) for name in names):
            raise UsageError(
                f"{path}: a TorchScript program, not a state dict; where PyTorch is installed: "
                "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
            )
        # Of compressed data a small file could fill the memory.
        allowance.take(sum(info.file_size for info in archive.infolist()))
        if all(name.endswith(".npy") for name in names):
            return {name.removesuffix(".npy"): _read_npy(archive.read(name)) for name in names}
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UsageError(
                f"{path}: a zip file, but neither a PyTorch checkpoint (no data.pkl) nor an npz"
            )
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise UsageError(
                f"{path}: a compressed PyTorch checkpoint, which torch.save does not write; unpack "
                "it and zip it without compression"
            )
        return _read_torch_zip(archive, pickles[0].removesuffix("data.pkl"), str(path))


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

    pickled = archive.read(f"{root}data.pkl")  # entries of a zip are slow to read by single bytes
    return load_restricted(io.BytesIO(pickled), source, len(pickled), TORCH_GLOBALS, load_storage)


def _read_legacy(path: Path) -> Any:
    source = str(path)
    storages: dict[str, _Storage] = {}

    def load_storage(persistent_id: Any) -> _Storage:
        if persistent_id[5:] not in ((), (None,)):
            raise ValueError("views of storages, as before PyTorch 0.4, are not supported")
        return storages.setdefault(str(persistent_id[2]), _make_storage(persistent_id))

    with open(path, "rb") as file:

        def load_next(*how: Any) -> Any:
            left = path.stat().st_size - file.tell()
            return load_restricted(file, source, left, *how)

        for _ in range(3):  # magic number, protocol version, properties of the machine
            load_next({})
        content = load_next(TORCH_GLOBALS, load_storage)
        for key in load_next({}):
            _read_legacy_storage(file, storages.get(str(key)), source)
    return content


def _read_legacy_storage(file: IO[bytes], storage: _Storage | None, source: str) -> None:
    count = int.from_bytes(file.read(8), "little", signed=True)
    if storage is None or count != storage.count:
        raise UsageError(f"{source}: damaged: the data of a tensor are missing")
    itemsize = _itemsize(storage.dtype)
    remaining = os.fstat(file.fileno()).st_size - file.tell()
    if not 0 <= count * itemsize <= remaining:
        raise UsageError(f"{source}: cut short: the file ends within a tensor")
    storage.data = file.read(count * itemsize)


# --- npz and safetensors ------------------------------------------------------------------------


def _read_npy(content: bytes) -> np.ndarray:
    """The array of an entry of an npz, without a copy of its data."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("plain arrays are expected")
    read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, is_fortran, dtype = read_header(file)
    start, size = file.tell(), math.prod(require_sizes(shape)) * dtype.itemsize
    if dtype.kind not in "fiubc" or len(content) - start != size:
        raise ValueError(f"plain arrays of numbers are expected, here one of {size} bytes")
    array = np.frombuffer(content, dtype, offset=start)
    array = array.reshape(shape, order="F" if is_fortran else "C")
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _read_safetensors(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if length > min(MOST_HEADER, len(data) - 8):
        raise ValueError(f"a header of {length} bytes")
    header = parse_json(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("a header without names")
    buffer = memoryview(data)[8 + length :]
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    return {name: _read_safetensor(entry, buffer, allowance) for name, entry in entries.items()}


def _read_safetensor(entry: Any, buffer: memoryview, allowance: Allowance) -> np.ndarray:
    begin, end = require_sizes(entry["data_offsets"])
    dtype, shape = _SAFETENSORS[entry["dtype"]], require_sizes(entry["shape"])
    if not begin <= end <= len(buffer):
        raise ValueError("a tensor lies outside the file")
    if math.prod(shape) * _itemsize(dtype) != end - begin:
        raise ValueError("a tensor's shape is not that of its data")
    allowance.take(2 * (end - begin))
    stored = np.frombuffer(buffer[begin:end], "<u2" if dtype == _BFLOAT16 else dtype)
    return _widened(stored.reshape(shape), dtype)
