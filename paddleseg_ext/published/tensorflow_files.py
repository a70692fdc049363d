"""Reads TensorFlow checkpoints and frozen graphs without TensorFlow; nothing in them is executed.

A checkpoint `PREFIX` is `PREFIX.index`, a LevelDB table of variables, beside
`PREFIX.data-00000-of-0000N`, which hold their bytes. A frozen graph is a GraphDef whose constants
are the variables.

Source: tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/format.cc and the .proto files
named below; checked against files that TensorFlow 2.15 wrote.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import UsageError

INDEX_SUFFIX = ".index"
# tensorflow/core/framework/types.proto
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 6: "<i1", 9: "<i8", 10: "|b1", 19: "<f2"}
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_VARINT_BYTES = 10

Fields = dict[int, list[int | bytes]]


def is_tensorflow(path: Path) -> bool:
    """Whether `path` is the prefix or the index of a checkpoint, or named like a frozen graph."""
    return path.suffix in (INDEX_SUFFIX, ".pb") or index_of(path).is_file()


def index_of(path: Path) -> Path:
    """The index file of a checkpoint that is named by its prefix, its index or a data file."""
    name = path.name.split(".data-")[0].removesuffix(INDEX_SUFFIX)
    return path.with_name(name + INDEX_SUFFIX)


def read_tensorflow(path: Path) -> dict[str, np.ndarray]:
    """Variables by name, as they are stored.

    Raises:
        UsageError: the file is missing, damaged, or contains no variables.
    """
    try:
        variables = _read_graph(path) if path.suffix == ".pb" else _read_bundle(index_of(path))
    except (ValueError, IndexError, KeyError, OSError, OverflowError) as error:
        raise UsageError(
            f"{path}: not a readable TensorFlow checkpoint or frozen graph: {error}"
        ) from None
    if not variables:
        raise UsageError(f"{path}: contains no variables")
    return variables


# --- protocol buffers ---------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and the position after it."""
    value = 0
    for i in range(_VARINT_BYTES):
        byte = data[at + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a number of more than 10 bytes")


def _fields(message: bytes) -> Fields:
    """Values of a message by field number: integers, or bytes."""
    fields: Fields = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(message, at)
        else:
            size, at = (8, at) if tag & 7 == 1 else (4, at) if tag & 7 == 5 else (-1, at)
            if tag & 7 == 2:
                size, at = _varint(message, at)
            if size < 0 or at + size > len(message):
                raise ValueError("a damaged message")
            value = message[at : at + size]
            at += size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: Fields, field: int) -> int:
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {field} is not a number")
    return value


def _bytes(fields: Fields, field: int) -> bytes:
    value = fields.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"field {field} is not a message")
    return value


def _shape(message: bytes) -> tuple[int, ...]:
    """tensor_shape.proto: field 2 is a dimension, whose field 1 is its size."""
    dims = _fields(message).get(2, [])
    return tuple(_number(_fields(dim), 1) for dim in dims if isinstance(dim, bytes))


def _to_array(data: bytes, dtype: int, shape: tuple[int, ...]) -> np.ndarray:
    if dtype not in _TYPES:
        raise ValueError(f"type {dtype} of types.proto is not supported")
    array = np.frombuffer(data, _TYPES[dtype])
    if array.size != math.prod(shape):
        raise ValueError(f"{array.size} values do not make a tensor of shape {list(shape)}")
    return array.reshape(shape)


# --- checkpoints --------------------------------------------------------------------------------


def _read_bundle(index: Path) -> dict[str, np.ndarray]:
    """tensor_bundle.proto: the entry of the empty key is the header, the others are variables."""
    entries = dict(_table(index.read_bytes()))
    shards = max(1, _number(_fields(entries.pop(b"", b"")), 1))
    prefix = str(index).removesuffix(INDEX_SUFFIX)
    data: dict[int, bytes] = {}
    taken = 0
    variables = {}
    for key, entry in entries.items():
        fields = _fields(entry)
        shard, offset, size = (_number(fields, field) for field in (3, 4, 5))
        if not 0 <= shard < shards:
            raise ValueError(f"data file {shard} of {shards}")
        if shard not in data:
            data[shard] = Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").read_bytes()
        taken += size
        # Variables do not overlap: a small file asks for no more memory than its size.
        if offset + size > len(data[shard]) or taken > sum(map(len, data.values())):
            raise ValueError(f"'{key.decode(errors='replace')}' reaches outside the data file")
        array = data[shard][offset : offset + size]
        variables[key.decode()] = _to_array(array, _number(fields, 1), _shape(_bytes(fields, 2)))
    return variables


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table of uncompressed blocks."""
    if len(data) < _FOOTER_BYTES or data[-8:] != _TABLE_MAGIC:
        raise ValueError("the index has no end: it is cut short, or another file")
    footer = data[-_FOOTER_BYTES:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    for _, handle in _block(data, footer[at:]):
        yield from _block(data, handle)


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block. Each key repeats the start of the one before it."""
    begin, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if size < 4 or begin + size >= len(data):
        raise ValueError("a block reaches outside the index")
    if data[begin + size] != 0:
        raise ValueError("a compressed block, which TensorFlow does not write")
    block = data[begin : begin + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        if at + rest + length > end or shared > len(key):
            raise ValueError("a damaged block")
        key = key[:shared] + block[at : at + rest]
        yield key, block[at + rest : at + rest + length]
        at += rest + length


# --- frozen graphs ------------------------------------------------------------------------------


def _read_graph(path: Path) -> dict[str, np.ndarray]:
    """graph.proto: field 1 is a node, whose name is 1, operator 2, attributes 5."""
    variables = {}
    for node in _fields(path.read_bytes()).get(1, []):
        fields = _fields(node) if isinstance(node, bytes) else {}
        if fields.get(2, [b""])[-1] != b"Const":
            continue
        for attribute in fields.get(5, []):
            entry = _fields(attribute) if isinstance(attribute, bytes) else {}
            if _bytes(entry, 1) != b"value":
                continue
            tensor = _fields(_bytes(_fields(_bytes(entry, 2)), 8))  # attr_value.proto: tensor
            shape, dtype = _shape(_bytes(tensor, 2)), _number(tensor, 1)
            # tensor.proto: 4 is tensor_content. Scalars and fills, which have none, are no weights.
            if 4 in tensor and shape and _TYPES.get(dtype, "").startswith("<f"):
                name = _bytes(fields, 1).decode()
                variables[name] = _to_array(_bytes(tensor, 4), dtype, shape)
    return variables
