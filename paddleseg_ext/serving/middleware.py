"""What happens around every request."""

import asyncio

from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_S = 2.0
OTHER = "other"


class DrainUnread:
    """Reads what is left of a body before a refusal is sent.

    A connection that is closed with bytes unread is reset, and the client loses the answer that
    says why.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        """`max_bytes` is the most that is read; a client that sends more is cut off."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Who announces a body and waits for "go on" has not sent it.
        finished = "expect" in Headers(scope=scope)

        async def watched_receive() -> Message:
            nonlocal finished
            message = await receive()
            finished = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def draining_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                left = self._max_bytes
                try:
                    async with asyncio.timeout(DRAIN_S):
                        while not finished and left > 0:
                            left -= len((await watched_receive()).get("body", b""))
                except TimeoutError:
                    pass
            await send(message)

        await self._app(scope, watched_receive, draining_send)


class CountAnswers:
    """Counts answers by path and status, and forbids browsers to guess types."""

    def __init__(self, app: ASGIApp, counter: Counter, paths: frozenset[str]):
        """Other `paths` count as one: a label of anybody's choice would grow without bound."""
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
