"""Images of a request's body, raw or multipart, bounded in bytes."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from paddleseg_ext.serving.images import Refused

MULTIPART = "multipart/form-data"
ENVELOPE_BYTES = 64 * 1024  # of a multipart body, beside the images
BATCH_BYTES = 4  # times the bytes of one image, for a multipart body


class Arriving:
    """A bound on the bytes of all bodies that are not complete yet.

    A body takes a place in the queue when it is complete, so that a slow client blocks no other.
    """

    def __init__(self, max_bytes: int):
        self._left = max_bytes

    def take(self, size: int) -> None:
        """Count bytes that arrived.

        Raises:
            Refused: 503, there is no room for them.
        """
        if size > self._left:
            raise Refused(503, "many images are arriving; try again later", retry_after_s=1)
        self._left -= size

    def give_back(self, size: int) -> None:
        """Stop counting bytes whose body is complete or was dropped."""
        self._left += size


@dataclass(frozen=True)
class Upload:
    """One image file of a request."""

    name: str
    content: bytes


async def read_one(request: Request, max_bytes: int, arriving: Arriving) -> Upload:
    """The image of `/v1/segment`: the body itself, or the one file of a multipart body.

    Raises:
        Refused: 400, 413, 415 or 503.
    """
    if not _is_multipart(request):
        return Upload("body", await read_body(request, max_bytes, arriving))
    uploads = await read_many(request, 1, max_bytes, arriving)
    return uploads[0]


async def read_many(
    request: Request, max_files: int, max_bytes: int, arriving: Arriving
) -> list[Upload]:
    """The files of a multipart body; names of fields are ignored.

    Args:
        request: with its body unread.
        max_files: in the body.
        max_bytes: per file.
        arriving: counts the bytes until the body is complete.

    Raises:
        Refused: 400, 413, 415 or 503.
    """
    if not _is_multipart(request):
        raise Refused(415, f"{MULTIPART} with image files is expected")
    most = min(max_files, BATCH_BYTES) * max_bytes + ENVELOPE_BYTES
    body = await read_body(request, most, arriving)

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
        uploads = [Upload(_name(file), await file.read()) for file in files]
    finally:
        await form.close()
    if not uploads:
        raise Refused(400, "an image file is expected in the multipart body, there is none")
    return uploads


def _name(file: UploadFile) -> str:
    """The file's name in valid Unicode: a client's `charset=` may decode to lone surrogates."""
    return (file.filename or "image").encode("utf-8", "replace").decode()


async def read_body(request: Request, max_bytes: int, arriving: Arriving) -> bytes:
    """The whole body of a request, of at most `max_bytes`.

    Raises:
        Refused: 413, 415 or 503.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "a body without Content-Encoding is expected")
    too_large = Refused(413, f"a body of at most {max_bytes} bytes is expected")
    promised = request.headers.get("content-length", "")
    if promised.isdecimal() and int(promised) > max_bytes:
        raise too_large
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            if size + len(chunk) > max_bytes:
                raise too_large
            arriving.take(len(chunk))
            size += len(chunk)
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        arriving.give_back(size)


def _is_multipart(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(MULTIPART)
