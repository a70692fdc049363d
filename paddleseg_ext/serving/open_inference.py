"""The Open Inference Protocol v2 (KServe's and Triton's HTTP interface) over the same service.

One model: an RGB image as a tensor in, a label map out, with the bundle's own pre- and
postprocessing. Images are bounded as those of /v1.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path, Request, Response
from numpy.typing import NDArray

from paddleseg_ext.common.version import __version__
from paddleseg_ext.serving.answers import (
    REFUSALS,
    TENSORS_IN,
    TENSORS_OUT,
    UNKNOWN_KEY,
    UNKNOWN_MODEL,
    Live,
    ModelMetadata,
    Ready,
    ServerMetadata,
    TensorMetadata,
    refusal,
)
from paddleseg_ext.serving.deadlines import reading, unless_gone, within
from paddleseg_ext.serving.images import Refused
from paddleseg_ext.serving.requests import Arriving, read_body
from paddleseg_ext.serving.service import Answer, SegmentationService
from paddleseg_ext.serving.tensors import (
    CHANNELS,
    CONFIDENCE,
    HEADER_LENGTH,
    IMAGE,
    LABELS,
    MOST_JSON_BYTES,
    OUTPUTS,
    InferRequest,
    read_infer_request,
    write_infer_answer,
)

VERSION = "1"  # of the model; the bundle's own is in /v1/model
FREE = -1
# The model's paths, and whether the description lists them: the second one says nothing new.
MODELS = (("/v2/models/{name}", True), (f"/v2/models/{{name}}/versions/{VERSION}", False))
PATHS = ("/v2", "/v2/health/live", "/v2/health/ready")
ModelName = Annotated[str, Path(description="`--model_name`, by default segmentation.")]


def add_open_inference(
    app: FastAPI, service: SegmentationService, guard: list[Any], arriving: Arriving
) -> None:
    """Add the routes below /v2.

    Args:
        app: gets the routes.
        service: answers.
        guard: dependencies of the routes that need the API key.
        arriving: counts the bytes of bodies that are not complete yet, /v1's among them.
    """
    _add_health(app, service)
    _add_metadata(app, service, guard)
    _add_infer(app, service, guard, arriving)


def most_body_bytes(service: SegmentationService) -> int:
    """Bytes of the largest body: the largest image, or several smaller ones, behind the JSON."""
    return MOST_JSON_BYTES + CHANNELS * service.settings.limits.max_pixels


def model_paths(service: SegmentationService) -> list[str]:
    """The paths of the one model, for counting."""
    model = f"/v2/models/{service.settings.model_name}"
    models = (model, f"{model}/versions/{VERSION}")
    return [*PATHS, *(f"{model}{route}" for model in models for route in ("", "/ready", "/infer"))]


def _add_health(app: FastAPI, service: SegmentationService) -> None:
    @app.get("/v2/health/live")
    def live() -> Live:
        """Whether the process runs."""
        return Live(live=True)

    @app.get("/v2/health/ready", responses={503: refusal("Not ready")})
    def ready() -> Ready:
        """Whether images are accepted."""
        _require_ready(service)
        return Ready(ready=True)

    def model_ready(name: ModelName) -> Ready:
        """Whether the model accepts images."""
        _require_model(service, name)
        _require_ready(service)
        return Ready(ready=True)

    refusals = UNKNOWN_MODEL | {503: refusal("Not ready")}
    for path, listed in MODELS:
        app.get(f"{path}/ready", responses=refusals, include_in_schema=listed)(model_ready)


def _add_metadata(app: FastAPI, service: SegmentationService, guard: list[Any]) -> None:
    refusals = UNKNOWN_KEY if guard else {}

    @app.get("/v2", dependencies=guard, responses=refusals)
    def server() -> ServerMetadata:
        """Name, release and extensions of the server."""
        return ServerMetadata(
            name="paddleseg_ext", version=__version__, extensions=["binary_tensor_data"]
        )

    def model(name: ModelName) -> ModelMetadata:
        """The model's tensors."""
        _require_model(service, name)
        maps = [FREE, FREE, FREE]
        return ModelMetadata(
            name=name,
            versions=[VERSION],
            platform="paddleseg_ext",
            inputs=[TensorMetadata(name=IMAGE, datatype="UINT8", shape=[*maps, CHANNELS])],
            outputs=[
                TensorMetadata(name=output, datatype=datatype, shape=maps)
                for output, datatype in OUTPUTS.items()
                if output != CONFIDENCE or service.predictor.gives_confidence
            ],
        )

    responses = refusals | UNKNOWN_MODEL
    for path, listed in MODELS:
        app.get(path, dependencies=guard, responses=responses, include_in_schema=listed)(model)


def _add_infer(
    app: FastAPI, service: SegmentationService, guard: list[Any], arriving: Arriving
) -> None:
    deadline_s = service.settings.deadline
    most = most_body_bytes(service)
    refusals = REFUSALS | UNKNOWN_MODEL | (UNKNOWN_KEY if guard else {})

    async def infer(name: ModelName, request: Request) -> Response:
        """Segment images of one size, (N, H, W, 3) RGB: label maps (N, H, W) of class ids."""
        _require_model(service, name)
        async with within(deadline_s):
            service.require_room()
            body = await reading(read_body(request, most, arriving))
            # Whole bodies are no longer counted as arriving: each has a place while it is parsed.
            async with service.admission():
                asked = await service.help(_parsing(body, request.headers.get(HEADER_LENGTH)))
            async with service.admission(len(asked.images)):
                answers = await unless_gone(request, _segment_all(service, asked))
                content, length = await service.help(lambda: _write(name, asked, answers))
        headers = {} if length is None else {HEADER_LENGTH: str(length)}
        media = "application/json" if length is None else "application/octet-stream"
        return Response(content, media_type=media, headers=headers)

    for path, listed in MODELS:
        app.post(
            f"{path}/infer",
            include_in_schema=listed,
            dependencies=guard,
            response_class=Response,
            responses=refusals | TENSORS_OUT,
            openapi_extra={"requestBody": TENSORS_IN},
        )(infer)


def _parsing(body: bytes, header_length: str | None) -> Callable[[], InferRequest]:
    return lambda: read_infer_request(body, header_length)


async def _segment_all(service: SegmentationService, asked: InferRequest) -> list[Answer]:
    with_confidence = CONFIDENCE in asked.outputs
    work = [service.segment(image, "json", None, with_confidence) for image in asked.images]
    return list(await asyncio.gather(*work))


def _write(name: str, asked: InferRequest, answers: list[Answer]) -> tuple[bytes, int | None]:
    tensors: dict[str, NDArray] = {}
    if LABELS in asked.outputs:
        tensors[LABELS] = np.stack([answer.segmentation.label_map for answer in answers])
    if CONFIDENCE in asked.outputs:
        found = [answer.segmentation.confidence for answer in answers]
        tensors[CONFIDENCE] = np.stack([one for one in found if one is not None])
    return write_infer_answer(name, VERSION, asked, tensors)


def _require_ready(service: SegmentationService) -> None:
    if not service.is_ready:
        raise Refused(503, "the network is not running", retry_after_s=1)


def _require_model(service: SegmentationService, name: str) -> None:
    expected = service.settings.model_name
    if name != expected:
        raise Refused(404, f"the model is named '{expected}', another one was asked for")
