"""Options of the HTTP service: the flags of `serve` and the arguments on Ray Serve.

Nothing here needs the packages that serve, so that `serve --help` works without them.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import cut
from paddleseg_ext.common.flags import natural_float, natural_int, positive_float, positive_int
from paddleseg_ext.common.options import option
from paddleseg_ext.serving.images import ImageLimits

MIB = 1 << 20
MOST_PORT = 65535


def port_number(text: str) -> int:
    """A port, or 0 for any."""
    value = natural_int(text)
    if value > MOST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {MOST_PORT}, got '{text}'")
    return value


def name_in_path(text: str) -> str:
    """A name that needs no quoting in a path."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", text):
        raise argparse.ArgumentTypeError(
            f"letters, digits, _ - and, not first, . are expected, got '{cut(text)}'"
        )
    return text


@dataclass(frozen=True)
class ServiceSettings:
    """Bounds of a service, with or without HTTP."""

    max_batch: int = option(1, "images that may run together", parse=positive_int)
    max_wait_ms: float = option(
        5, "how long the first image of a batch waits for others", parse=natural_float
    )
    queue_size: int = option(
        16,
        "images accepted and not yet answered; more get 503 and Retry-After",
        parse=positive_int,
    )
    deadline: float = option(30.0, "seconds for a request", parse=positive_float)
    max_mib: float = option(16.0, "largest image file, MiB", parse=positive_float)
    max_megapixels: float = option(
        8.4, "largest image, in millions of pixels; memory grows with it", parse=positive_float
    )

    model_name: str = option("segmentation", "of the one model below /v2", parse=name_in_path)

    @property
    def limits(self) -> ImageLimits:
        """Limits of an image."""
        return ImageLimits(int(self.max_mib * MIB), int(self.max_megapixels * 1e6))


@dataclass(frozen=True)
class ServeOptions(ServiceSettings):
    """Options of a service over HTTP."""

    host: str = option("127.0.0.1", "address to listen on")
    allowed_host: list[str] = option(
        [],
        "names under which it is reached, beside localhost, --host and IP addresses; without them "
        "any name will do where there is an API key",
        metavar="NAME",
    )
    port: int = option(8080, "0: any that is free; it is printed", parse=port_number)
    api_key_file: str | None = option(
        None, "its first line is the key that /v1, /v2 and /metrics then demand", metavar="FILE"
    )
    num_classes: int | None = option(
        None,
        "for a bundle of PaddleSeg's whose graph ends in argmax: it does not say it itself",
        parse=positive_int,
    )
    web: Path | None = option(
        None,
        "a folder of export --web: the page then offers to run the network in the browser. Whoever "
        "reaches the service gets its graph, also without the API key",
        metavar="DIR",
    )
