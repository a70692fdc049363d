"""Reading pickles without running anything they contain.

A pickle is a program: it may name any function of any module and have it called. Here a name
that is not on the caller's list is refused before anything is called. So an untrusted checkpoint
can at worst be rejected.
"""

import importlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from paddleseg_ext.common.errors import UsageError

# numpy moved its core in 2.0; files carry the name of the version that wrote them.
_CORE = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
_multiarray: Any = importlib.import_module(f"{_CORE}.multiarray")

Globals = Mapping[tuple[str, str], Any]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """The raw bytes of an array, as `_codecs.encode` gives them in protocol-2 pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


NUMPY_GLOBALS: Globals = {
    ("numpy.core.multiarray", "_reconstruct"): _multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _multiarray._reconstruct,
    ("numpy.core.multiarray", "scalar"): _multiarray.scalar,
    ("numpy._core.multiarray", "scalar"): _multiarray.scalar,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
    ("collections", "OrderedDict"): OrderedDict,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(
        self,
        file: IO[bytes],
        allowed: Globals,
        persistent_load: Callable[[Any], Any] | None,
    ):
        super().__init__(file, encoding="latin1")
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


class ForbiddenGlobal(Exception):
    """A pickle names an object that is not on the list; the message is its full name."""


def load_restricted(
    file: IO[bytes],
    source: str,
    allowed: Globals = NUMPY_GLOBALS,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Unpickle `file`, building nothing but plain containers and what `allowed` lists.

    Args:
        file: the open pickle.
        source: the file's name in messages.
        allowed: (module, name) -> the object that is used for it.
        persistent_load: resolver of persistent ids, which PyTorch uses for its storages.

    Raises:
        UsageError: the pickle names something else (the message has the name), or it is damaged.
    """
    try:
        return _RestrictedUnpickler(file, allowed, persistent_load).load()
    except ForbiddenGlobal as error:
        raise UsageError(
            f"{source}: refused: it asks for '{error}', which is not a tensor or a plain "
            "container; loading it could run code"
        ) from None
    except UsageError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way at all
        raise UsageError(
            f"{source}: not a readable checkpoint, damaged or cut short "
            f"({type(error).__name__}: {error})"
        ) from None
