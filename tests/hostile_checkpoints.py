"""Writes checkpoints that are made to crash or to fill the memory."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.core.multiarray import _reconstruct

ORDERED = b"ccollections\nOrderedDict\n)R"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
DEEP = 150_000


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def many(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def storage(count: int = 4, key: bytes = text("0"), kind: bytes = text("storage")) -> bytes:
    return many(kind, b"ctorch\nFloatStorage\n", key, text("cpu"), number(count)) + b"Q"


def tensor(
    shape: bytes = many(number(2), number(2)),
    strides: bytes = many(number(2), number(1)),
    stored: bytes = storage(),
    offset: bytes = number(0),
) -> bytes:
    parts = many(stored, offset, shape, strides, b"\x89", ORDERED)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + parts + b"R"


def state(value: bytes, key: bytes = text("a")) -> bytes:
    return b"\x80\x02}" + key + value + b"s."


def array(
    shape: bytes = many(number(1)), dtype: bytes = text("f4"), data: bytes = b"C\x04\0\0\0\0"
) -> bytes:
    """A NumPy array with the parts given as operations."""
    kind = b"cnumpy\ndtype\n" + many(dtype, number(0), number(1)) + b"R"
    begun = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return begun + many(number(1), shape, kind, b"\x89", data) + b"b"


def torch_zip(path: Path, pickled: bytes, data: bytes = b"\0" * 16) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", data)
    return path


def _deep(open_with: bytes, innermost: bytes, close_with: bytes) -> bytes:
    return open_with * DEEP + innermost + close_with * DEEP


NESTED = {
    "tuples": _deep(b"", b"K\x01", b"\x85"),
    "lists": _deep(b"](", b"K\x01", b"e"),
    "frozensets": _deep(b"(", b"K\x01", b"\x91"),
    "ordered dicts": _deep(b"ccollections\nOrderedDict\n((K\x01", b"K\x01", b"tt\x85R"),
}
KEYS = {f"{name} as key": state(b"K\x01", value) for name, value in NESTED.items()}
VALUES = {f"{name} as value": state(value) for name, value in NESTED.items()}
ARGUMENTS = {
    "sizes": state(array(shape=NESTED["tuples"])),
    "type": state(array(dtype=NESTED["tuples"])),
    "class": state(NESTED["tuples"] + b"(tR"),
}
DEEPLY_NESTED = KEYS | VALUES | ARGUMENTS

# Each is the value of the entry `a`, in a pickle of protocol 2.
WRONG_ARRAYS = {
    "a number of sides": array(shape=number(5)),
    "a negative side": array(shape=many(number(-1))),
    "an enormous side": array(shape=many(number(0), number(10**30))),
    "too many sides": array(shape=many(*[number(1)] * 80)),
    "too few bytes": array(shape=many(number(2))),
    "no bytes": array(data=number(4)),
    "objects": array(dtype=text("O8"), data=b"]K\x01a"),
    "a record": array(dtype=text("f4,O8")),
    "a type that is none": array(dtype=text("x4")),
    "a type of numbers": array(dtype=number(5)),
    "a state of numbers": array()[: array().index(b"(\x8a\x01\x01(")] + b"K\x05b",
    "a scalar": b"cnumpy.core.multiarray\nscalar\n" + many(text("f4"), b"C\x04\0\0\0\0") + b"R",
    "a function": b"cnumpy.core.multiarray\n_reconstruct\n",
    "a class": b"cnumpy\nndarray\n(tR",
    "text": text("weights"),
    "items overwritten": ORDERED + b"}" + text("items") + b"K\x05sb",
    "a claim of bytes": b"\x8e" + struct.pack("<Q", 1 << 40),
    "a claim of text": b"X\xff\xff\xff\x7f",
    "a claim of a number": b"\x8b\xff\xff\xff\x7f",
    "a place far away": b"K\x01r\xff\xff\xff\x7f",
    "nothing": b"0",
    "an instance": b"(i__main__\nX\n",
}
WRONG_TENSORS = {
    "a storage that is a number": tensor(stored=number(5)),
    "a storage that is a tensor": tensor(stored=tensor()),
    "a storage without data": tensor(stored=storage(key=text("7"))),
    "a key that is nested": tensor(stored=storage(key=many(many(text("0"))))),
    "another kind of storage": tensor(stored=storage(kind=number(5))),
    "an enormous empty side": tensor(shape=many(number(0), number(10**30))),
    "a negative stride": tensor(strides=many(number(-2), number(1))),
    "an offset that is a text": tensor(offset=text("0")),
    "sides that are texts": tensor(shape=many(text("2"), number(2))),
    "a side too many": tensor(shape=many(number(2), number(1), number(2))),
    "sides that are a number": tensor(shape=number(4)),
    "no sides": tensor(shape=b"N"),
    "true sides": tensor(shape=many(b"\x88", number(2))),
    "arguments missing": b"ctorch._utils\n_rebuild_tensor_v2\n(tR",
    "a parameter of nothing": b"ctorch._utils\n_rebuild_parameter\n(tR",
    "a size of a number": b"ctorch\nSize\nK\x05\x85R",
}


class _Raw:
    """An array as NumPy pickles it, with bytes that may be another's, too."""

    def __init__(self, shape: tuple[int, ...], dtype: str, data: bytes):
        self.state = (1, shape, np.dtype(dtype), False, data)

    def __reduce__(self) -> tuple:
        return _reconstruct, (np.ndarray, (0,), b"b"), self.state


def _shared(path: Path, dtype: str) -> None:
    raw = bytes(1_000_000)
    arrays = {f"a{i}": _Raw((250_000,), dtype, raw) for i in range(3000)}
    path.write_bytes(pickle.dumps(arrays, 2))


def _packed(path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (64 << 20,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for i in range(4):
            with file.open(f"a{i}.npy", "w") as entry:
                entry.write(header.getvalue())
                for _ in range(256):
                    entry.write(bytes(1 << 20))


def _claiming(path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 32,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", header.getvalue())


def _overlapping_zip(path: Path) -> None:
    """A thousand entries of the directory that lead to the same megabyte."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", state(tensor()))
        file.writestr("archive/data/0", bytes(1 << 20))
        last = file.getinfo("archive/data/0")
        for i in range(1, 3000):
            entry = zipfile.ZipInfo(f"archive/data/{i}")
            entry.header_offset, entry.file_size = last.header_offset, last.file_size
            entry.compress_size, entry.CRC = last.compress_size, last.CRC
            file.filelist.append(entry)


def _views(path: Path) -> None:
    view = tensor(many(number(250_000)), many(number(1)), storage(250_000))
    items = b"".join(text(f"a{i}") + view for i in range(3000))
    torch_zip(path, b"\x80\x02}(" + items + b"u.", bytes(1_000_000))


def _overlapping_safetensors(path: Path) -> None:
    entry = {"dtype": "BF16", "shape": [500_000], "data_offsets": [0, 1_000_000]}
    header = json.dumps({f"a{i}": entry for i in range(3000)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1_000_000))


def _long_header(path: Path) -> None:
    header = b'{"a": [' + b"[]," * 20_000_000 + b"[]]}"
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def _empty_lists(path: Path) -> None:
    path.write_bytes(b"\x80\x02" + b"]" * 8_000_000 + b".")


# File name -> writes it.
BOMBS: dict[str, Callable[[Path], None]] = {
    "swapped.pdparams": lambda path: _shared(path, ">f4"),
    "shared.pdparams": lambda path: _shared(path, "<f4"),
    "lists.pdparams": _empty_lists,
    "packed.npz": _packed,
    "claiming.npz": _claiming,
    "overlapping.pth": _overlapping_zip,
    "views.pth": _views,
    "overlapping.safetensors": _overlapping_safetensors,
    "header.safetensors": _long_header,
}
