"""A bundle served over HTTP until a signal ends it."""

import asyncio
import math
import signal

import uvicorn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.processes import ENDING_SIGNALS
from paddleseg_ext.evaluation.bundle_protocol import by_its_rule
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.web.folder import require_web_folder
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.connections import (
    HEAD_S,
    READING_S,
    backlog,
    bounded_protocol,
    most_connections,
)
from paddleseg_ext.serving.hosts import allowed_hosts
from paddleseg_ext.serving.keys import read_api_key
from paddleseg_ext.serving.options import ServeOptions
from paddleseg_ext.serving.pace import seconds_for
from paddleseg_ext.serving.service import SegmentationService

LOOPBACK = ("127.0.0.1", "::1", "localhost")
GRACE_S = 5  # beyond the deadline, for accepted requests at the end


def serve(bundle: Bundle, spec: RuntimeSpec, options: ServeOptions) -> None:
    """Serve a bundle until SIGTERM or Ctrl-C, and finish the requests that were accepted.

    Called from the main thread, which gets the signals:

        serve(read_bundle("output/bundle"), RuntimeSpec.parse("openvino"), ServeOptions(port=8000))

    Raises:
        UsageError: a wrong key file, a runtime that cannot run the bundle, or an address that
            cannot be listened on.
    """
    api_key = read_api_key(options.api_key_file)
    if options.web is not None:
        require_web_folder(options.web)
    if api_key is None and options.host not in LOOPBACK:
        warn(f"--host {options.host} without --api_key_file: whoever reaches it may use it")
    service = open_service(bundle, spec, options)
    _say_pace(service.predictor, options)
    asyncio.run(_listen(service, options, api_key))


def open_service(bundle: Bundle, spec: RuntimeSpec, options: ServeOptions) -> SegmentationService:
    """A service that is ready: the bundle is loaded, and what needs compiling is compiled.

    Raises:
        UsageError: see `Predictor.of_bundle`.
    """
    predictor = by_its_rule(Predictor.of_bundle(bundle, spec, options.num_classes))
    predictor.warn_of_shortfall()
    predictor.warm_up()
    return SegmentationService(predictor, options)


async def _listen(service: SegmentationService, options: ServeOptions, api_key: str | None) -> None:
    server = _make_server(service, options, api_key)
    # uvicorn raises the signal again at its end; the process shall end with status 0. It does not
    # handle that of a closed terminal.
    for number in (signal.SIGINT, *ENDING_SIGNALS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, server.handle_exit)
    name = service.predictor.describe().name
    announcing = asyncio.create_task(_announce(server, options.host, name))
    try:
        await server.serve()
    except SystemExit:  # uvicorn's, for an address in use
        raise UsageError(
            f"--port {options.port}: cannot listen on {options.host}:{options.port}; "
            "is it in use (--port 0 takes a free one), or is --host no address of this machine?"
        ) from None
    finally:
        announcing.cancel()
    cut = len(server.server_state.connections)
    if cut:
        log(f"[SERVE] stopped; {cut} connections were cut that did not take their answers")
    else:
        log("[SERVE] stopped; everything accepted was answered")


def _make_server(
    service: SegmentationService, options: ServeOptions, api_key: str | None
) -> uvicorn.Server:
    names = allowed_hosts(options.host, options.allowed_host, api_key is not None)
    most, deadline_s = most_connections(), options.deadline
    config = uvicorn.Config(
        create_app(service, api_key, names, options.web),
        host=options.host,
        port=options.port,
        backlog=backlog(most),
        http=bounded_protocol(most, HEAD_S, deadline_s + READING_S),
        log_level="warning",
        access_log=False,
        # Bounds the end where a client does not read its answer.
        timeout_graceful_shutdown=math.ceil(deadline_s) + GRACE_S,
    )
    return uvicorn.Server(config)


def _say_pace(predictor: Predictor, options: ServeOptions) -> None:
    """Warn where the network needs longer for the largest accepted image than the deadline."""
    seconds = seconds_for(options.limits.max_pixels, predictor)
    if seconds is None:
        return
    largest = f"the largest image ({options.max_megapixels:g} million pixels)"
    if seconds > options.deadline:
        warn(
            f"{largest} takes the network about {seconds:.1f} s, --deadline is "
            f"{options.deadline:g} s: it gets no answer and holds up all others meanwhile; "
            "lower --max_megapixels or raise --deadline"
        )
    else:
        log(f"[SERVE] {largest} takes the network about {seconds:.1f} s")


async def _announce(server: uvicorn.Server, host: str, name: str) -> None:
    """Log the address as soon as requests are accepted."""
    while not server.started:
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    log(f"[SERVE] ready on http://{f'[{host}]' if ':' in host else host}:{port} ({name})")
