"""ASGI middleware around every request."""

import asyncio
import logging

from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddleseg_ext.serving.hosts import is_allowed, is_same_site

DRAIN_S = 2.0
OTHER = "other"
GUARDED = ("/v1/", "/v2/")


class DrainUnread:
    """Reads the rest of a body after a refusal was sent, and ends the answer only then.

    A connection that is closed with unread bytes is reset, and the client loses the refusal. The
    refusal itself does not wait: its length is known, so that the client has all of it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        """At most `max_bytes` are read; a client that sends more is disconnected."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A client that waits for "100 Continue" has not sent its body.
        finished = "expect" in Headers(scope=scope)
        is_refusal = False

        async def watched_receive() -> Message:
            nonlocal finished
            message = await receive()
            finished = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def draining_send(message: Message) -> None:
            nonlocal is_refusal
            if message["type"] == "http.response.start":
                is_refusal = message["status"] >= 400
            elif is_refusal and not finished and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await drain()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        async def drain() -> None:
            left = self._max_bytes
            try:
                async with asyncio.timeout(DRAIN_S):
                    while not finished and left > 0:
                        left -= len((await watched_receive()).get("body", b""))
            except TimeoutError:
                pass

        await self._app(scope, watched_receive, draining_send)


class AnswerDefects:
    """Answers 500 where the application fails, so that the answer is counted like any other."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            if scope["type"] != "http" or has_started:
                raise
            logging.getLogger("uvicorn.error").exception("a defect of the service")
            error = {"error": "a defect of the service; its log has the details"}
            await JSONResponse(error, 500)(scope, receive, send)


class CheckSite:
    """Refuses requests of other web pages that a user's browser sends for them."""

    def __init__(self, app: ASGIApp, names: frozenset[str], has_key: bool):
        """`names` are those of `hosts.allowed_hosts`; a page with the key may be of any site."""
        self._app = app
        self._names = names
        self._has_key = has_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        # Browsers send the first to https and localhost only.
        is_cross_site = headers.get("sec-fetch-site") == "cross-site" or (
            origin is not None and not is_same_site(origin, host, self._names)
        )
        refusal = None
        if not is_allowed(host, self._names):
            error = "an IP address or a known name is expected in Host: see --allowed_host"
            refusal = JSONResponse({"error": error}, 421)
        elif is_cross_site and not self._has_key and scope["path"].startswith(GUARDED):
            refusal = JSONResponse({"error": "a request from another site is not answered"}, 403)
        await (refusal or self._app)(scope, receive, send)


class CountAnswers:
    """Counts answers by path and status, and forbids browsers to guess media types."""

    def __init__(self, app: ASGIApp, counter: Counter, paths: frozenset[str]):
        """Paths that are not in `paths` are counted as one, which bounds the number of labels."""
        self._app = app
        self._counter = counter
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else OTHER

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counter.labels(path, message["status"]).inc()
                headers = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, counting_send)
