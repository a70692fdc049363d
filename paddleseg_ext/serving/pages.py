"""The service's pages: the one for people, the description of the routes, and that of `--web`."""

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import FastAPI, Path, Response
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from paddleseg_ext.inference.web.folder import (
    NUM_SAMPLES,
    SHARED_SCRIPTS,
    draw_sample,
    render_page,
    static_file,
)
from paddleseg_ext.serving.answers import BINARY, REFUSALS
from paddleseg_ext.serving.api_page import api_page
from paddleseg_ext.serving.images import Refused

WEB = "/browser"
SCRIPTS = (*SHARED_SCRIPTS, "service.js")
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css"}
FROM_HERE = (
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Scripts and styles of this server, and requests to it.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    f"{FROM_HERE}",
    "Referrer-Policy": "no-referrer",
}
# WebAssembly and its threads: the last three isolate the page from other origins, for these.
WEB_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    f"worker-src 'self' blob:; style-src 'self'; media-src 'self' blob:; {FROM_HERE}",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class WebFolder(StaticFiles):
    """The folder of `export --web`, with the headers by which it may use several threads."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See `StaticFiles.get_response`."""
        response: Response = await super().get_response(path, scope)
        response.headers.update(WEB_HEADERS)
        return response


def add_pages(app: FastAPI, web: FilePath | None = None) -> None:
    """Add the pages; `web` is a folder of `export --web`, which the page then offers."""
    page = render_page(is_service=True, root="static/", browser=f"{WEB[1:]}/" if web else "")

    @app.get("/", response_class=HTMLResponse)
    def index() -> HTMLResponse:
        """The page for people."""
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/docs", response_class=HTMLResponse)
    def docs() -> HTMLResponse:
        """This description, for people."""
        text = api_page(app.openapi())
        policy = {"Content-Security-Policy": _policy_of_one_file(text)}
        return HTMLResponse(text, headers=PAGE_HEADERS | policy)

    @app.get(
        "/samples/{number}.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": BINARY}}}, 422: REFUSALS[422]},
    )
    def sample(number: Annotated[int, Path(ge=0, lt=NUM_SAMPLES)]) -> Response:
        """A drawn street to try the page with."""
        return Response(_sample(number), media_type="image/png")

    @app.get("/static/{name}", include_in_schema=False)
    def script(name: str) -> Response:
        if name not in SCRIPTS:
            raise Refused(404, "Not Found")
        content = static_file(name).read_bytes()
        return Response(content, media_type=MEDIA_TYPES[name.rpartition(".")[2]])

    if web is not None:
        app.mount(WEB, WebFolder(directory=web, html=True), name="browser")


def _policy_of_one_file(page: str) -> str:
    """Only the page's own script and style, and requests to this server."""

    def hashes(tag: str) -> str:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    own = f"script-src {hashes('script')}; style-src {hashes('style')}"
    return f"default-src 'none'; {own}; {FROM_HERE}"


@lru_cache(maxsize=NUM_SAMPLES)
def _sample(number: int) -> bytes:
    return draw_sample(number)
