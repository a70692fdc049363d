"""The shapes of the service's JSON answers; OpenAPI is made from them."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorAnswer(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One sentence: what was expected, what came.")


class Health(BaseModel):
    """Whether the process lives or takes images."""

    status: Literal["ok"]


class ClassEntry(BaseModel):
    """A class."""

    id: int = Field(description="The value of a label map's pixel.")
    name: str
    color: str = Field(description="#rrggbb")


class ClassShare(ClassEntry):
    """How much of an image a class has."""

    pixels: int
    share: float = Field(description="0 to 1, of the image's pixels.")


class SizeAnswer(BaseModel):
    """A size in pixels."""

    width: int
    height: int


class SegmentAnswer(BaseModel):
    """What was found in an image."""

    size: SizeAnswer = Field(description="Of the image and of its label map.")
    network_size: SizeAnswer = Field(description="Of what the network saw.")
    classes: list[ClassShare]
    batch_size: int = Field(description="Images that ran together.")
    timings_ms: dict[str, float] = Field(
        description="decode, preprocess, queue, network (of the batch), postprocess, encode."
    )


class BatchItem(BaseModel):
    """One image of a batch: its answer, or why there is none."""

    name: str = Field(description="The file name of the part.")
    status: int = Field(description="The HTTP status that this image alone would have had.")
    error: str | None = None
    answer: SegmentAnswer | None = None
    image_base64: str | None = Field(
        default=None, description="With output=labels PNG, overlay JPEG."
    )


class BatchAnswer(BaseModel):
    """The images in the order they came."""

    results: list[BatchItem]


class LimitsAnswer(BaseModel):
    """What the service takes."""

    max_bytes: int
    max_pixels: int
    max_side: int
    formats: list[str]
    queue_size: int
    max_batch: int
    deadline_s: float


class ModelAnswer(BaseModel):
    """The bundle's manifest and what runs it."""

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
