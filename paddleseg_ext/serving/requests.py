"""Reading the images that a client sends, raw or multipart, bounded in bytes."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from paddleseg_ext.serving.images import Refused

MULTIPART = "multipart/form-data"
ENVELOPE_BYTES = 64 * 1024  # of a multipart body, beside the images
BATCH_BYTES = 4  # a multipart body may have so many times the bytes of one image


@dataclass(frozen=True)
class Upload:
    """One image as it came."""

    name: str
    content: bytes


async def read_one(request: Request, max_bytes: int) -> Upload:
    """The image of `/v1/segment`: the body itself, or the one file of a multipart body.

    Raises:
        Refused: 400, 413 or 415.
    """
    if not _is_multipart(request):
        return Upload("body", await _read_body(request, max_bytes))
    uploads = await read_many(request, 1, max_bytes)
    return uploads[0]


async def read_many(request: Request, max_files: int, max_bytes: int) -> list[Upload]:
    """The files of a multipart body, whatever their fields are called.

    Args:
        request: with its body unread.
        max_files: that may be in it.
        max_bytes: of each file.

    Raises:
        Refused: 400, 413 or 415.
    """
    if not _is_multipart(request):
        raise Refused(415, f"{MULTIPART} with image files is expected")
    body = await _read_body(request, min(max_files, BATCH_BYTES) * max_bytes + ENVELOPE_BYTES)

    async def in_one_piece() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, in_one_piece(), max_files=max_files)
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, ValueError, LookupError, TypeError) as error:
        reason = getattr(error, "message", "") or "it cannot be parsed"
        raise Refused(400, f"a {MULTIPART} body with image files is expected: {reason}") from None
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        uploads = [Upload(file.filename or "image", await file.read()) for file in files]
    finally:
        await form.close()
    if not uploads:
        raise Refused(400, "an image file is expected in the multipart body, there is none")
    return uploads


async def _read_body(request: Request, max_bytes: int) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "a body without Content-Encoding is expected")
    too_large = Refused(413, f"a body of at most {max_bytes} bytes is expected")
    promised = request.headers.get("content-length", "")
    if promised.isdecimal() and int(promised) > max_bytes:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def _is_multipart(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(MULTIPART)
