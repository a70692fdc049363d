"""The files of weights that a new training begins from: `pretrained:` keys and the recipe's own."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.config import Config

BACKBONE_KEY = "model.backbone.pretrained"
Key = Literal["model.backbone.pretrained", "pretrained"]
FROM_SCRATCH = "none"


@dataclass(frozen=True)
class StartingWeights:
    """The section `starting_weights:`, with which a recipe names the file that it begins from."""

    file: str = option(MISSING, "the `.pdparams` that a new run loads where it exists")
    url: str = option(MISSING, "page or file of the published weights; nothing is downloaded")
    system: str | None = option(
        None, "who published them, as in `import --from`; none where the file needs no import"
    )
    key: Key = option(
        BACKBONE_KEY,
        "what the file holds: a backbone, or (`pretrained`) a network",
    )
    download: str | None = option(
        None, "name of the published file (default: the last part of the URL)"
    )
    generation: str | None = option(None, "as in `import --generation`, where it is needed")
    sha256: str | None = option(None, "of the published file, or its first digits")

    def commands(self) -> list[str]:
        """The commands that make `file`, two where it is imported."""
        archive = urlsplit(self.url).path.rpartition("/")[2]
        published = self.download or archive
        if archive.endswith(".tar.gz"):
            fetch = f"curl -LO {self.url} && tar xzf {archive}"
        elif self.system is None:
            fetch = f"curl -L --create-dirs -o {self.file} {self.url}"
        elif archive == published:
            fetch = f"curl -LO {self.url}"
        else:  # a page with a button
            fetch = f"download {published} from {self.url}"
        if self.system is None:
            return [fetch]
        generation = f" --generation {self.generation}" if self.generation else ""
        return [
            fetch,
            f"paddleseg-ext import --from {self.system}{generation} --weights {published} "
            f"--save_path {self.file}",
        ]


def starting_weights(config: Config) -> StartingWeights | None:
    """The weights that training starts from; None where a `pretrained` key is given, or `none`.

    Raises:
        UsageError: the section has an unknown key, or lacks one.
    """
    if not config.starting_weights:
        return None
    wanted = from_section(StartingWeights, config.starting_weights, "starting_weights")
    return None if _given(config) else wanted


def files_to_start_from(config: Config) -> dict[str, Any]:
    """Key -> file of the weights that a new run loads, in this order.

    Raises:
        UsageError: see `starting_weights`.
    """
    wanted = starting_weights(config)
    if wanted is not None:
        return {wanted.key: wanted.file} if Path(wanted.file).is_file() else {}
    return {key: file for key, file in _given(config).items() if file != FROM_SCRATCH}


def missing_start(config: Config) -> str:
    """A warning where the file that the recipe begins from does not exist; empty otherwise.

    Raises:
        UsageError: see `starting_weights`.
    """
    wanted = starting_weights(config)
    if wanted is None or Path(wanted.file).is_file():
        return ""
    return (
        f"{config.path}: this recipe starts from {wanted.file}, which does not exist, so this run "
        "starts from random weights, and its result is not the published one. To make the file: "
        f"{'; '.join(wanted.commands())}. To train from scratch without this warning: "
        f"--opts pretrained={FROM_SCRATCH}"
    )


def _given(config: Config) -> dict[str, Any]:
    """The `pretrained` keys that have a value."""
    backbone = config.model.get("backbone")
    given = {
        "pretrained" if config.raw.get("pretrained") else "model.pretrained": config.pretrained,
        BACKBONE_KEY: backbone.get("pretrained") if isinstance(backbone, Mapping) else None,
    }
    return {key: file for key, file in given.items() if file}
