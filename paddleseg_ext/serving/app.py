"""The HTTP side: routes, statuses and pages over `service.SegmentationService`."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from paddleseg_ext.common.version import __version__
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.serving.answers import (
    BINARY,
    MANY_IMAGES,
    ONE_IMAGE,
    OTHER_SITES,
    REFUSALS,
    UNKNOWN_KEY,
    BatchAnswer,
    BatchItem,
    ClassEntry,
    ClassShare,
    ConfidenceAnswer,
    Health,
    LimitsAnswer,
    ModelAnswer,
    SegmentAnswer,
    SizeAnswer,
    UnknownAnswer,
    refusal,
)
from paddleseg_ext.serving.deadlines import reading, unless_gone, within
from paddleseg_ext.serving.images import FORMATS, MAX_SIDE, Refused
from paddleseg_ext.serving.middleware import AnswerDefects, CheckSite, CountAnswers, DrainUnread
from paddleseg_ext.serving.open_inference import (
    add_open_inference,
    model_paths,
    most_body_bytes,
)
from paddleseg_ext.serving.pages import add_pages
from paddleseg_ext.serving.requests import ENVELOPE_BYTES, Arriving, Upload, read_many, read_one
from paddleseg_ext.serving.service import Answer, Encoding, SegmentationService

COUNTED_PATHS = (
    "/",
    "/v1/segment",
    "/v1/segment:batch",
    "/v1/model",
    "/healthz",
    "/readyz",
    "/metrics",
)
MEDIA_TYPES = {"labels": "image/png", "overlay": "image/jpeg", "confidence": "image/png"}
OutputFlag = Annotated[
    Encoding,
    Query(
        description="The form of the answer. confidence: a grey PNG, 255 * the largest softmax "
        "after all resizing."
    ),
]
ConfidenceFlag = Annotated[bool, Query(description="Mean and shares of the confidence in JSON.")]
UnknownFlag = Annotated[
    float | None,
    Query(
        gt=0,
        lt=1,
        description="Pixels of less confidence are unknown in label map and overlay, and in no "
        "class's share.",
    ),
]
OrientationFlag = Annotated[
    Orientation | None,
    Query(
        description="stored: pixels as in the file; upright: the camera's tag is applied; "
        "default: as the bundle says."
    ),
]

ONE_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Palette or grey PNG, overlay JPEG or JSON, at the image's size",
        "content": {media: {"schema": BINARY} for media in MEDIA_TYPES.values()},
        "model": SegmentAnswer,
    }
}


def create_app(
    service: SegmentationService,
    api_key: str | None = None,
    names: frozenset[str] | None = None,
    web: FilePath | None = None,
) -> FastAPI:
    """The application.

    Args:
        service: closed when the application shuts down.
        api_key: that `Authorization: Bearer ...` must hold for /v1, /v2 and /metrics; None needs
            none.
        names: that `Host` may hold beside IP addresses, see `hosts.allowed_hosts`; None allows any
            name, and pages of other sites.
        web: a folder of `export --web`, which the page then offers; None for none.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="paddleseg_ext",
        version=__version__,
        summary="Semantic segmentation of images by one exported bundle.",
        lifespan=lifespan,
        responses=OTHER_SITES if names is not None else None,
        # Their pages load scripts from elsewhere; `pages` has one that does not.
        docs_url=None,
        redoc_url=None,
    )
    guard = [Depends(_key_check(api_key))] if api_key is not None else []
    settings = service.settings
    in_queue = settings.queue_size * settings.limits.max_bytes
    arriving = Arriving(max(in_queue, most_body_bytes(service)) + ENVELOPE_BYTES)
    _add_segmentation(app, service, guard, arriving)
    _add_batch(app, service, guard, arriving)
    _add_information(app, service, guard)
    add_open_inference(app, service, guard, arriving)
    add_pages(app, web)
    _add_error_answers(app)
    # The last added is the outermost.
    app.add_middleware(AnswerDefects)
    if names is not None:
        app.add_middleware(CheckSite, names=names, has_key=api_key is not None)
    app.add_middleware(DrainUnread, max_bytes=service.settings.limits.max_bytes)
    counted = frozenset((*COUNTED_PATHS, *model_paths(service)))
    app.add_middleware(CountAnswers, counter=service.metrics.requests, paths=counted)
    return app


def _key_check(api_key: str) -> Callable[..., Awaitable[None]]:
    bearer = HTTPBearer(auto_error=False, description="The API key.")

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        # As bytes: `compare_digest` takes only ASCII text.
        if given is None or not hmac.compare_digest(given.credentials.encode(), api_key.encode()):
            raise Refused(401, "an API key is expected: Authorization: Bearer KEY")

    return check


def _add_segmentation(
    app: FastAPI, service: SegmentationService, guard: list[Any], arriving: Arriving
) -> None:
    deadline_s = service.settings.deadline
    max_bytes = service.settings.limits.max_bytes
    refusals = REFUSALS | (UNKNOWN_KEY if guard else {})

    @app.post(
        "/v1/segment",
        dependencies=guard,
        responses=refusals | ONE_ANSWER,
        openapi_extra={"requestBody": ONE_IMAGE},
    )
    async def segment(
        request: Request,
        output: OutputFlag = "labels",
        orientation: OrientationFlag = None,
        confidence: ConfidenceFlag = False,
        unknown_below: UnknownFlag = None,
    ) -> Response:
        """Segment the image in the body.

        A label map's pixel is a class id. `Server-Timing` holds the milliseconds per step.
        """
        async with within(deadline_s):
            service.require_room()
            upload = await reading(read_one(request, max_bytes, arriving))
            async with service.admission():
                work = service.segment(
                    upload.content, output, orientation, confidence, unknown_below
                )
                answer = await unless_gone(request, work)
        return _respond(service, answer, output)


def _add_batch(
    app: FastAPI, service: SegmentationService, guard: list[Any], arriving: Arriving
) -> None:
    deadline_s = service.settings.deadline
    max_bytes = service.settings.limits.max_bytes
    refusals = REFUSALS | (UNKNOWN_KEY if guard else {})

    @app.post(
        "/v1/segment:batch",
        dependencies=guard,
        responses=refusals,
        response_model=BatchAnswer,
        openapi_extra={"requestBody": MANY_IMAGES},
    )
    async def segment_batch(
        request: Request,
        output: OutputFlag = "json",
        orientation: OrientationFlag = None,
        confidence: ConfidenceFlag = False,
        unknown_below: UnknownFlag = None,
    ) -> BatchAnswer:
        """Segment the images of a multipart body; a bad one does not affect the others."""
        most = service.settings.queue_size

        async def work(uploads: list[Upload]) -> list[BatchItem]:
            def segmented(upload: Upload) -> Awaitable[Answer]:
                return service.segment(
                    upload.content, output, orientation, confidence, unknown_below
                )

            items = [_item(service, upload.name, segmented(upload)) for upload in uploads]
            return list(await asyncio.gather(*items))

        async with within(deadline_s):
            service.require_room()
            uploads = await reading(read_many(request, most, max_bytes, arriving))
            async with service.admission(len(uploads)):
                return BatchAnswer(results=await unless_gone(request, work(uploads)))


async def _item(service: SegmentationService, name: str, segmented: Awaitable[Answer]) -> BatchItem:
    try:
        answer = await segmented
    except Refused as refusal:
        return BatchItem(name=name, status=refusal.status, error=refusal.sentence)
    return BatchItem(
        name=name,
        status=200,
        answer=_as_json(service, answer),
        image_base64=base64.b64encode(answer.encoded).decode() if answer.encoded else None,
    )


def _as_json(service: SegmentationService, answer: Answer) -> SegmentAnswer:
    found, shares = answer.segmentation, service.confidence_shares(answer)
    height, width = found.label_map.shape
    network_h, network_w = found.input_hw
    return SegmentAnswer(
        size=SizeAnswer(width=width, height=height),
        network_size=SizeAnswer(width=network_w, height=network_h),
        classes=[ClassShare(**entry) for entry in service.class_shares(answer)],
        batch_size=found.batch_size,
        confidence=ConfidenceAnswer(**shares) if shares else None,
        unknown=UnknownAnswer(**unknown) if (unknown := service.unknown(answer)) else None,
        timings_ms={stage: round(ms, 3) for stage, ms in answer.timings_ms.items()},
    )


def _respond(service: SegmentationService, answer: Answer, output: Encoding) -> Response:
    timing = ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in answer.timings_ms.items())
    headers = {"Server-Timing": timing, "Cache-Control": "no-store"}
    if answer.encoded is None:
        return JSONResponse(_as_json(service, answer).model_dump(), headers=headers)
    return Response(answer.encoded, media_type=MEDIA_TYPES[output], headers=headers)


def _add_information(app: FastAPI, service: SegmentationService, guard: list[Any]) -> None:
    refusals = UNKNOWN_KEY if guard else {}

    @app.get("/v1/model", dependencies=guard, responses=refusals)
    def model() -> ModelAnswer:
        """The bundle's manifest, the runtime, and the service's limits."""
        return _describe(service)

    @app.get("/healthz")
    def healthz() -> Health:
        """Whether the process runs."""
        return Health(status="ok")

    @app.get("/readyz", responses={503: refusal("Not ready")})
    def readyz() -> Health:
        """Whether images are accepted."""
        if not service.is_ready:
            raise Refused(503, "the network is not running", retry_after_s=1)
        return Health(status="ok")

    @app.get(
        "/metrics",
        dependencies=guard,
        response_class=Response,
        responses=refusals | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _describe(service: SegmentationService) -> ModelAnswer:
    settings, predictor = service.settings, service.predictor
    bundle = predictor.bundle
    assert bundle is not None  # `server.open_service` opens bundles only
    manifest = bundle.manifest
    checkpoint = dict(manifest.checkpoint) if manifest else {}
    if checkpoint.get("path"):  # without the folders of the machine that exported it
        checkpoint["path"] = PurePath(checkpoint["path"]).name
    versions = manifest.versions if manifest else {}
    return ModelAnswer(
        network=manifest.network if manifest else None,
        classes=[ClassEntry(**entry) for entry in service.classes()],
        checkpoint=checkpoint,
        variables={"loaded": manifest.variables_loaded, "total": manifest.variables_total}
        if manifest
        else {},
        transforms=bundle.transforms,
        color_order=bundle.color_order,
        input_shape=bundle.input_shape,
        output_op=bundle.output_op,
        resize_back=predictor.postprocess.resize_back,
        versions={name: str(value) for name, value in versions.items()},
        files=dict(manifest.files) if manifest else {},
        backend=predictor.describe().to_dict(),
        limits=LimitsAnswer(
            max_bytes=settings.limits.max_bytes,
            max_pixels=settings.limits.max_pixels,
            max_side=MAX_SIDE,
            formats=list(FORMATS),
            queue_size=settings.queue_size,
            max_batch=settings.max_batch,
            deadline_s=settings.deadline,
        ),
        service_version=__version__,
    )


def _add_error_answers(app: FastAPI) -> None:
    """Every refusal is `{"error": one sentence}`."""

    @app.exception_handler(Refused)
    async def refused(_: Request, refusal: Refused) -> JSONResponse:
        headers = {}
        if refusal.retry_after_s is not None:
            headers["Retry-After"] = str(refusal.retry_after_s)
        if refusal.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": refusal.sentence}, refusal.status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def wrong_path(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "the client went away"}, 400)
