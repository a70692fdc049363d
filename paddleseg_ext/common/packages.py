"""Packages that the base installation does not have."""

from collections.abc import Iterator
from contextlib import contextmanager

from paddleseg_ext.common.errors import UsageError


@contextmanager
def optional_imports(needed_for: str, install: str) -> Iterator[None]:
    """Imports that may fail; what to do then is in the message.

    Args:
        needed_for: a flag, a command or the like; opens the message.
        install: what follows `pip install`.

    Raises:
        UsageError: a package is missing, or is there and cannot be loaded.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{needed_for}: {error.name} is not installed: pip install {install}"
        ) from None
    except ImportError as error:
        raise UsageError(f"{needed_for}: {error}; try pip install {install}") from None
