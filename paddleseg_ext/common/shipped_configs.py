"""The configurations that come with this package, by name.

They lie in `paddleseg_ext/configs` of an installed copy and in `configs` of a checkout.
"""

import re
from difflib import get_close_matches
from pathlib import Path

from paddleseg_ext.common.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]
PARTS = "_base_"  # the folder of files that are no configuration of their own
SUFFIX = ".yml"


def shipped_configs() -> dict[str, Path]:
    """Name and yml of every shipped configuration, in the order of the names."""
    folder = PACKAGE / "configs"
    if not folder.is_dir() and (PACKAGE.parent / "pyproject.toml").is_file():
        folder = PACKAGE.parent / "configs"
    found = {path.stem: path for path in folder.glob(f"*/*{SUFFIX}") if path.parent.name != PARTS}
    return dict(sorted(found.items()))


def find_config(named: str | Path) -> Path:
    """The yml that `--config` means: the path of a file, else the name of a shipped one.

    Args:
        named: a path, or a name with or without `.yml`.

    Raises:
        UsageError: neither exists; the nearest name is in the message.
    """
    path = Path(named)
    if path.is_file():
        return path
    names = shipped_configs()
    name = path.name.removesuffix(SUFFIX)
    if path.name == str(named) and name in names:
        return names[name]
    if path.is_dir():  # whoever reads it says what is expected instead
        return path
    nearest = "".join(f", the nearest is '{n}'" for n in get_close_matches(name, names, 1, 0.0))
    raise UsageError(
        f"--config: '{named}' does not exist; the path of a yml is expected, or the name of a "
        f"shipped configuration (paddleseg-ext config list){nearest}"
    )


def describe_config(path: Path) -> str:
    """The first sentence of a yml's opening comment, without its full stop; empty without one."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.strip() == "#" or line.startswith("#  "):
            break  # an empty line ends the paragraph, an indented one is a command
        lines.append(line.removeprefix("#").strip())
    return re.split(r"\.(?:\s|$)", " ".join(lines), maxsplit=1)[0].rstrip(":")
