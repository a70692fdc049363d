"""Serve an exported bundle over HTTP, with a page to try it in a browser.

POST an image to /v1/segment and get its label map (palette PNG, pixel value = class id, original
size), overlay or JSON; /openapi.json describes the rest.

  paddleseg-ext serve --config bundle/deploy.yaml
  curl --data-binary @street.jpg 'http://127.0.0.1:8080/v1/segment?output=labels' -o labels.png

SIGTERM and Ctrl-C finish what was accepted, then stop.
"""

import argparse
import asyncio
import math
import signal
from typing import Any

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.class_table import find_class_table
from paddleseg_ext.inference.engines.base import Backend, probe_batch
from paddleseg_ext.inference.engines.open import BACKENDS
from paddleseg_ext.serving.backend import AUTO, open_service_backend

REQUIREMENTS = "requirements-serving.txt"
MIB = 1 << 20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_KEY_LETTERS = 16
MOST_PORT = 65535
MOST_THREADS = 1024
GRACE_S = 5  # beyond the deadline, for what was accepted when told to stop


def port_number(text: str) -> int:
    """A port, or 0 for any."""
    value = flags.natural_int(text)
    if value > MOST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {MOST_PORT}, got '{text}'")
    return value


def thread_count(text: str) -> int:
    """As many threads as a machine may have cores."""
    value = flags.positive_int(text)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST_THREADS} threads, got '{text}'")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "serve")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument("--backend", choices=(AUTO, *BACKENDS), default=AUTO, help="what runs it")
    flags.add_device_flag(parser)
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="int8 needs a bundle that `quantize` wrote; fp16 a GPU",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--allowed_host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names under which it is reached, beside localhost, --host and IP addresses; without "
        "them any name will do where there is an API key",
    )
    parser.add_argument(
        "--port", type=port_number, default=8080, help="0: any that is free; it is printed"
    )
    parser.add_argument(
        "--cpu_threads", type=thread_count, help="default: OMP_NUM_THREADS, else every core"
    )
    parser.add_argument(
        "--api_key_file",
        metavar="FILE",
        help="its first line is the key that /v1 and /metrics then demand",
    )
    parser.add_argument(
        "--num_classes",
        type=flags.positive_int,
        help="for a bundle of PaddleSeg's whose graph ends in argmax: it does not say it itself",
    )
    _add_limit_flags(parser)
    return parser


def _add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """How much is taken on, and how much of it at a time."""
    parser.add_argument(
        "--max_batch", type=flags.positive_int, default=1, help="images that may run together"
    )
    parser.add_argument(
        "--max_wait_ms",
        type=flags.natural_int,
        default=5,
        help="how long the first image of a batch waits for others",
    )
    parser.add_argument(
        "--queue_size",
        type=flags.positive_int,
        default=16,
        help="images accepted and not yet answered; more get 503 and Retry-After",
    )
    parser.add_argument(
        "--deadline", type=flags.positive_float, default=30.0, help="seconds for a request"
    )
    parser.add_argument(
        "--max_mib", type=flags.positive_float, default=16.0, help="largest image file, MiB"
    )
    parser.add_argument(
        "--max_megapixels",
        type=flags.positive_float,
        default=8.4,
        help="largest image, in millions of pixels; memory grows with it",
    )


def main(argv: list[str]) -> int | None:
    """Check, load, warm up, serve until told to stop."""
    arguments = build_parser().parse_args(argv)
    _require_packages()
    api_key = read_api_key(arguments.api_key_file)
    if api_key is None and arguments.host not in LOOPBACK:
        warn(f"--host {arguments.host} without --api_key_file: whoever reaches it may use it")
    threads = fix_thread_count(arguments.cpu_threads)
    device = resolve_device(arguments.device)
    bundle = read_bundle(arguments.config)
    backend = open_service_backend(bundle, arguments.backend, arguments.precision, threads, device)
    asyncio.run(_serve(arguments, bundle, backend, api_key))
    return None


def read_api_key(path: str | None) -> str | None:
    """The first line of a file; None where no file is named.

    Raises:
        UsageError: no such file, or a key that is too short to be one.
    """
    if path is None:
        return None
    file = require_file(path, "--api_key_file")
    # What is no text becomes letters that no key may have.
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    key = lines[0].strip() if lines else ""
    if len(key) < MIN_KEY_LETTERS or not key.isascii() or " " in key:
        raise UsageError(
            f"--api_key_file: {path}: a line of at least {MIN_KEY_LETTERS} ASCII letters without "
            "spaces is expected; python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return key


async def _serve(
    arguments: argparse.Namespace, bundle: Bundle, backend: Backend, api_key: str | None
) -> None:
    import uvicorn

    from paddleseg_ext.serving.app import create_app
    from paddleseg_ext.serving.connections import (
        HEAD_S,
        READING_S,
        backlog,
        bounded_protocol,
        most_connections,
    )
    from paddleseg_ext.serving.hosts import allowed_hosts
    from paddleseg_ext.serving.images import ImageLimits
    from paddleseg_ext.serving.service import SegmentationService, ServiceSettings

    table = find_class_table(bundle, backend, arguments.num_classes)
    backend.run(probe_batch(bundle.input_shape, bundle.input_dtype))  # the first run is slow
    _say_pace(arguments, bundle, backend)
    limits = ImageLimits(int(arguments.max_mib * MIB), int(arguments.max_megapixels * 1e6))
    settings = ServiceSettings(
        limits=limits,
        max_batch=arguments.max_batch,
        max_wait_ms=arguments.max_wait_ms,
        queue_size=arguments.queue_size,
        deadline_s=arguments.deadline,
    )
    names = allowed_hosts(arguments.host, arguments.allowed_host, api_key is not None)
    app = create_app(SegmentationService(bundle, backend, table, settings), api_key, names)
    deadline_s, most = arguments.deadline, most_connections()
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        backlog=backlog(most),
        http=bounded_protocol(most, HEAD_S, deadline_s + READING_S),
        log_level="warning",
        access_log=False,
        # Else a client that does not read its answer could hold up the end without end.
        timeout_graceful_shutdown=math.ceil(deadline_s) + GRACE_S,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again when it is done; that must not end us with a bad status.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    announcing = asyncio.create_task(_announce(server, arguments.host, backend))
    try:
        await server.serve()
    except SystemExit:  # uvicorn's answer to an address in use
        raise UsageError(
            f"--port {arguments.port}: cannot listen on {arguments.host}:{arguments.port}; "
            "is it in use (--port 0 takes a free one), or is --host no address of this machine?"
        ) from None
    finally:
        announcing.cancel()
    cut = len(server.server_state.connections)
    if cut:
        log(f"[SERVE] stopped; {cut} connections were cut that did not take their answers")
    else:
        log("[SERVE] stopped; everything accepted was answered")


def _say_pace(arguments: argparse.Namespace, bundle: Bundle, backend: Backend) -> None:
    """Warn where the largest image that is taken cannot be answered in time."""
    from paddleseg_ext.serving.pace import seconds_for

    seconds = seconds_for(int(arguments.max_megapixels * 1e6), bundle, backend)
    if seconds is None:
        return
    largest = f"the largest image ({arguments.max_megapixels:g} million pixels)"
    if seconds > arguments.deadline:
        warn(
            f"{largest} takes the network about {seconds:.1f} s, --deadline is "
            f"{arguments.deadline:g} s: it gets no answer and holds up all others meanwhile; "
            "lower --max_megapixels or raise --deadline"
        )
    else:
        log(f"[SERVE] {largest} takes the network about {seconds:.1f} s")


async def _announce(server: Any, host: str, backend: Backend) -> None:
    """Say where, as soon as requests are taken."""
    while not server.started:
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    name = backend.describe()["name"]
    log(f"[SERVE] ready on http://{f'[{host}]' if ':' in host else host}:{port} ({name})")


def _require_packages() -> None:
    with optional_imports("the service", f"-r {REQUIREMENTS}"):
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
