"""Reads pickles without executing anything in them, and without their setting the cost.

A pickle is a program: it can name any function of any module and call it, nest values until an
interpreter in C runs out of stack, and let a few bytes stand for many. So the standard library's
unpickler in Python runs here, with these limits:

- It knows only the operations that build plain containers, numbers and texts, a million at most.
- A name that is not on the caller's list is refused. NumPy's own functions are on no list: arrays
  are read as records (`ArrayRecord`) and built afterwards, when their sizes were compared.
- Keys are texts and numbers, so that nothing deep is ever hashed. Sets become lists.
- Nothing is read beyond the end of the file, whatever length the pickle claims.

At worst, a checkpoint is rejected.
"""

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError, cut

MOST_OPERATIONS = 1_000_000  # a network of 1000 tensors takes some 30,000
# Bytes of a file's tensors over those of the file: 2 for bfloat16, more where tensors are shared.
MOST_TIMES = 8
SPARE_BYTES = 16 << 20  # beside these, for small files
_NUMBERS = re.compile(r"[fiuc]\d{1,2}|b1|\?")

Globals = Mapping[tuple[str, str], Any]


class Allowance:
    """The bytes that the tensors of a file may take in memory."""

    def __init__(self, source: str, file_bytes: int):
        """
        Args:
            source: the file's name in messages.
            file_bytes: its size.
        """
        self._source = source
        self._left = MOST_TIMES * file_bytes + SPARE_BYTES

    def take(self, num_bytes: int) -> None:
        """Count some bytes, before they are allocated.

        Raises:
            UsageError: the tensors take more than the file's size allows.
        """
        self._left -= num_bytes
        if self._left < 0:
            raise UsageError(
                f"{self._source}: refused: its tensors take more than {MOST_TIMES} times the size "
                "of the file in memory; save them uncompressed, each with its own data"
            )


class ArrayRecord:
    """A pickled NumPy array, not yet built."""

    def __init__(self, *_arguments: Any):
        self.state: Any = None

    def to_array(self, allowance: Allowance) -> NDArray:
        """The array, read-only where it shares the file's bytes.

        Raises:
            ValueError: it holds something else than numbers, or data that are not of its shape.
        """
        *_, shape, dtype, is_fortran, data = self.state
        if not isinstance(dtype, _DTypeRecord):
            raise ValueError("an array without a type")
        kind = dtype.numpy()
        data = data.encode("latin1") if isinstance(data, str) else data  # written by Python 2
        size = kind.itemsize * math.prod(require_sizes(shape))
        if not isinstance(data, bytes) or len(data) != size:
            raise ValueError(f"{size} bytes of an array are expected")
        allowance.take(size)
        array = np.frombuffer(data, kind).reshape(shape, order="F" if is_fortran else "C")
        return array if kind.isnative else array.astype(kind.newbyteorder("="))


class NumpyScalar:
    """A pickled number of NumPy's; never a tensor."""

    def __init__(self, *_arguments: Any):
        self.state: Any = None


class _DTypeRecord:
    def __init__(self, text: Any = None, *_arguments: Any):
        self.text = text
        self.state: Any = None

    def numpy(self) -> np.dtype:
        if not isinstance(self.text, str) or not _NUMBERS.fullmatch(self.text):
            raise ValueError(f"an array of {cut(str(self.text))}, which are no numbers")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        return np.dtype(f"{order}{self.text}" if order in ("<", ">") else self.text)


def require_sizes(sizes: Any) -> tuple[int, ...]:
    """The sides of a tensor, or the strides, of a file.

    Raises:
        ValueError: no natural numbers below those that any memory has.
    """
    if not isinstance(sizes, list | tuple) or len(sizes) > 32:
        raise ValueError("a tensor's sizes are expected")
    if not all(type(side) is int and 0 <= side < 1 << 48 for side in sizes):
        raise ValueError("a tensor's sizes are natural numbers")
    return tuple(sizes)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """The raw bytes of an array in a pickle of protocol 2, instead of `_codecs.encode`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


def _require_key(key: Any) -> Any:
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str | bytes | int | float | None) for part in parts):
        raise pickle.UnpicklingError(f"a key that is a {type(key).__name__} of others")
    return key


def _ordered_dict(pairs: Iterable[Any] = ()) -> OrderedDict:
    return OrderedDict((_require_key(key), value) for key, value in pairs)


NUMPY_GLOBALS: Globals = {
    ("numpy.core.multiarray", "_reconstruct"): ArrayRecord,
    ("numpy._core.multiarray", "_reconstruct"): ArrayRecord,
    ("numpy.core.multiarray", "scalar"): NumpyScalar,
    ("numpy._core.multiarray", "scalar"): NumpyScalar,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _DTypeRecord,
    ("_codecs", "encode"): _latin1_bytes,
    ("collections", "OrderedDict"): _ordered_dict,
}

_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG
    LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1
    TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT GET BINGET LONG_BINGET PUT BINPUT
    LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE PERSID BINPERSID
""".split()  # noqa: SIM905


class _Operations(dict):
    """Operation -> function; counts what is looked up."""

    num_left = MOST_OPERATIONS

    def __getitem__(self, code: int) -> Any:
        self.num_left -= 1
        if self.num_left < 0:
            raise pickle.UnpicklingError(f"more than {MOST_OPERATIONS} operations")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"operation {code:#x}, which no checkpoint needs")


class _Reader:
    """A file that ends at the size that it has."""

    def __init__(self, file: IO[bytes], num_bytes: int):
        self._file = file
        self._left = num_bytes

    def read(self, num_bytes: int) -> bytes:
        if num_bytes > self._left and num_bytes > 1:
            raise EOFError("the file ends before")
        data = self._file.read(min(num_bytes, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self._file.readline(self._left)
        self._left -= len(data)
        return data


class _RestrictedUnpickler(pickle._Unpickler):
    # The base class looks every operation up here. Its own attributes are in no type stub.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in _PLAIN
    }

    def __init__(
        self,
        file: Any,
        allowed: Globals,
        persistent_load: Callable[[Any], Any] | None,
    ):
        super().__init__(file, encoding="latin1")
        self.dispatch = _Operations(type(self).dispatch)  # type: ignore[misc]
        self._allowed = allowed
        self._load_persistent = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[(module, name)]
        except KeyError:
            raise ForbiddenGlobal(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        if self._load_persistent is None:
            raise pickle.UnpicklingError("an external reference")
        return self._load_persistent(pid)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise pickle.UnpicklingError("items without a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_require_key(key)] = value

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    def load_frozenset(self) -> None:
        self.append(tuple(self.pop_mark()))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ArrayRecord | NumpyScalar | _DTypeRecord):
            target.state = state
        # PyTorch's state dicts have `_metadata`, of which nothing is needed.
        elif not isinstance(target, OrderedDict):
            raise pickle.UnpicklingError(f"a state of a {type(target).__name__}")

    dispatch |= {
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.BUILD[0]: load_build,
        pickle.EMPTY_SET[0]: pickle._Unpickler.dispatch[pickle.EMPTY_LIST[0]],
        pickle.ADDITEMS[0]: pickle._Unpickler.dispatch[pickle.APPENDS[0]],
        pickle.FROZENSET[0]: load_frozenset,
    }


class ForbiddenGlobal(Exception):
    """A pickle names something that is not on the list; the message is the full name."""


@contextmanager
def damage_is_one_line(source: str) -> Iterator[None]:
    """Reading of a file in which whatever a damaged one raises becomes one line.

    Args:
        source: the file's name in messages.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # `zipfile`, the unpickler and NumPy raise anything
        reason = cut(" ".join(str(error).split()))
        raise UsageError(
            f"{source}: not a readable checkpoint, damaged or cut short "
            f"({type(error).__name__}: {reason})"
        ) from None


def load_restricted(
    file: IO[bytes],
    source: str,
    num_bytes: int,
    allowed: Globals = NUMPY_GLOBALS,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Unpickle `file`, building nothing but plain containers and what `allowed` lists.

    Args:
        file: the open pickle.
        source: the file's name in messages.
        num_bytes: that the file has from here on.
        allowed: (module, name) -> the object to use.
        persistent_load: resolves persistent ids, which PyTorch uses for storages.

    Raises:
        UsageError: the pickle names something else (the message has the name), or it is damaged.
    """
    with damage_is_one_line(source):
        try:
            reader = _Reader(file, num_bytes)
            return _RestrictedUnpickler(reader, allowed, persistent_load).load()
        except ForbiddenGlobal as error:
            name = str(error)
            is_module = name.startswith(("torch.nn.", "__torch__.", "paddle.nn."))
            whole = "; a whole network was saved: save its state_dict() instead"
            raise UsageError(
                f"{source}: refused: it asks for '{cut(name)}', which is neither a tensor nor a "
                f"plain container; loading it could run code{whole if is_module else ''}"
            ) from None
