"""Deadlines of requests, and clients that disconnect."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from paddleseg_ext.serving.images import Refused

T = TypeVar("T")
_UNTIL = ContextVar("until", default=math.inf)


@asynccontextmanager
async def within(deadline_s: float) -> AsyncIterator[None]:
    """Refuse a request with 503 where it is not answered in time; tasks within know `until`.

    Without Retry-After: an image that took all that time by itself would take it again.
    """
    token = _UNTIL.set(time.perf_counter() + deadline_s)
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError:
        raise Refused(
            503, f"not done within the deadline of {deadline_s:g} s; expected is a smaller image"
        ) from None
    finally:
        _UNTIL.reset(token)


def until() -> float:
    """`perf_counter` at the deadline of the request that is answered; infinite without one."""
    return _UNTIL.get()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, or drop it when its client disconnects; the request's body has been read.

    Raises:
        ClientDisconnect: the client disconnected.
    """
    working = asyncio.create_task(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        working.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await working
    except asyncio.CancelledError:
        if watching.done():
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def reading(body: Awaitable[T]) -> T:
    """The body that is read, refused with 408 where the deadline passes meanwhile.

    Raises:
        Refused: 408, or as the reading itself.
    """
    try:
        return await body
    except asyncio.CancelledError:
        raise Refused(408, "the body did not come within the deadline") from None
