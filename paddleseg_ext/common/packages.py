"""Packages that the base installation does not have, and the extras that bring them."""

from collections.abc import Iterator
from contextlib import contextmanager

from paddleseg_ext.common.errors import UsageError

# Its own pins (OpenCV up to 4.6) do not go with ours; the extra `cpu` has what it needs.
INSTALL_PADDLESEG = "pip install --no-deps paddleseg==2.8.0"


def how_to_install(extra: str) -> str:
    """The command that installs an extra of pyproject.toml."""
    return f"pip install 'paddleseg_ext[{extra}]'"


@contextmanager
def optional_imports(needed_for: str, extra: str, instead: str = "") -> Iterator[None]:
    """Turn a failed import inside the block into a message that says what to install.

    Args:
        needed_for: a flag, a command or the like; opens the message.
        extra: of pyproject.toml, with the package in it.
        instead: what works without the package, such as "use --backend paddle".

    Raises:
        UsageError: a package is missing, or is installed and cannot be loaded.
    """
    remedy = how_to_install(extra) + (f", or {instead}" if instead else "")
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{needed_for}: {error.name} is not installed: {remedy}") from None
    except ImportError as error:
        raise UsageError(f"{needed_for}: {error}; try {remedy}") from None
