"""Bodies of requests and answers, as OpenAPI describes them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from paddleseg_ext.serving.images import FORMATS
from paddleseg_ext.serving.requests import MULTIPART


class ErrorAnswer(BaseModel):
    """The reason for a refusal."""

    error: str = Field(description="One sentence: what was expected, what came.")


class Health(BaseModel):
    """The process runs, or accepts images."""

    status: Literal["ok"]


class ClassEntry(BaseModel):
    """Id, name and colour of a class."""

    id: int = Field(description="The value of a label map's pixel.")
    name: str
    color: str = Field(description="#rrggbb")


class ClassShare(ClassEntry):
    """A class's share of an image."""

    pixels: int
    share: float = Field(description="0 to 1, of the image's pixels.")


class SizeAnswer(BaseModel):
    """A size in pixels."""

    width: int
    height: int


class ConfidenceAnswer(BaseModel):
    """The confidence of an image: per pixel the largest softmax after all resizing."""

    mean: float = Field(description="0 to 1, over the image's pixels.")
    shares_below: dict[str, float] = Field(
        description="Confidence -> share of the pixels below it, 0 to 1."
    )


class UnknownAnswer(BaseModel):
    """The pixels whose confidence is below `unknown_below`."""

    id: int = Field(description="Their value in the label map.")
    pixels: int
    share: float = Field(description="0 to 1, of the image's pixels.")


class SegmentAnswer(BaseModel):
    """The segmentation of an image, in numbers."""

    size: SizeAnswer = Field(description="Of the image and of its label map.")
    network_size: SizeAnswer = Field(description="Of the network's input.")
    classes: list[ClassShare]
    batch_size: int = Field(description="Images that ran together.")
    confidence: ConfidenceAnswer | None = Field(
        default=None, description="With confidence=true or output=confidence."
    )
    unknown: UnknownAnswer | None = Field(default=None, description="With unknown_below.")
    timings_ms: dict[str, float] = Field(
        description="decode, preprocess, queue, network (of the batch), postprocess, encode."
    )


class BatchItem(BaseModel):
    """One image of a batch: its answer, or the reason for its refusal."""

    name: str = Field(description="The file name of the part.")
    status: int = Field(description="The HTTP status that this image alone would have had.")
    error: str | None = None
    answer: SegmentAnswer | None = None
    image_base64: str | None = Field(
        default=None, description="With output=labels and confidence PNG, overlay JPEG."
    )


class BatchAnswer(BaseModel):
    """One item per image, in the order of the request."""

    results: list[BatchItem]


class LimitsAnswer(BaseModel):
    """The service's limits."""

    max_bytes: int
    max_pixels: int
    max_side: int
    formats: list[str]
    queue_size: int
    max_batch: int
    deadline_s: float


class ModelAnswer(BaseModel):
    """The bundle's manifest, the runtime and the limits."""

    network: str | None
    classes: list[ClassEntry]
    checkpoint: dict[str, Any] = Field(description="File name, sha256 and iteration.")
    variables: dict[str, int] = Field(description="Tensors that the checkpoint filled, of total.")
    transforms: list[dict[str, Any]]
    color_order: str
    input_shape: list[int | None] | None
    output_op: str
    resize_back: str
    versions: dict[str, str]
    files: dict[str, str] = Field(description="File of the bundle -> sha256.")
    backend: dict[str, Any]
    limits: LimitsAnswer
    service_version: str


class Live(BaseModel):
    """The process runs."""

    live: bool


class Ready(BaseModel):
    """Images are accepted."""

    ready: bool


class ServerMetadata(BaseModel):
    """The server, in the words of the Open Inference Protocol."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor of the model."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is free.")


class ModelMetadata(BaseModel):
    """The model, in the words of the Open Inference Protocol."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


BINARY = {"type": "string", "format": "binary"}


def _form(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    fields = {"type": "object", "properties": {name: schema}, "required": [name]}
    return {MULTIPART: {"schema": fields}}


ONE_IMAGE = {
    "required": True,
    "content": {media: {"schema": BINARY} for media in FORMATS.values()} | _form("image", BINARY),
}
MANY_IMAGES = {
    "required": True,
    "content": _form("images", {"type": "array", "items": BINARY, "minItems": 1}),
}
_OUTPUT = {
    "type": "object",
    "properties": {
        "name": {"enum": ["labels", "confidence"]},
        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
    },
    "required": ["name"],
}
_PIXELS = {
    "type": "object",
    "properties": {
        "name": {"const": "image"},
        "datatype": {"const": "UINT8"},
        "shape": {
            "description": "[images, height, width, 3], RGB",
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 4,
            "maxItems": 4,
        },
        "data": {"type": "array", "description": "Numbers, flat or nested."},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer", "minimum": 1}},
        },
    },
    "required": ["name", "datatype", "shape"],
}
_INFER = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": _PIXELS, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
    "required": ["inputs"],
}
TENSORS_IN = {
    "required": True,
    "content": {
        "application/json": {"schema": _INFER},
        "application/octet-stream": {"schema": BINARY},
    },
}
_RETRY_AFTER = {
    "schema": {"type": "integer"},
    "description": "Seconds; absent where the request itself took all the time",
}


def refusal(description: str, **more: Any) -> dict[str, Any]:
    """A response that is an `ErrorAnswer`."""
    return {"model": ErrorAnswer, "description": description, **more}


Responses = dict[int | str, dict[str, Any]]
TENSORS_OUT: Responses = {
    200: {
        "description": "The outputs as JSON, or JSON and the bytes of tensors behind it",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}
REFUSALS: Responses = {
    400: refusal("Empty, truncated or damaged"),
    408: refusal("The body did not come within the deadline"),
    413: refusal("Too many bytes, pixels or images"),
    415: refusal("Not a still image in a known format"),
    422: refusal("A wrong parameter, or not for this bundle"),
    503: refusal(
        "The queue is full, or the deadline passed", headers={"Retry-After": _RETRY_AFTER}
    ),
}
OTHER_SITES: Responses = {
    403: refusal("From a page of another site, without an API key"),
    421: refusal("Another name in Host"),
}
UNKNOWN_MODEL: Responses = {404: refusal("Another name than the model's")}
UNKNOWN_KEY: Responses = {401: refusal("No API key, or another")}
