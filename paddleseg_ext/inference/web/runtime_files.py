"""ONNX Runtime Web, by which a browser and node run ONNX graphs: which release, and its files.

It is fetched once, when it is first needed, and not shipped: its WebAssembly is larger than this
package, and most installations never write a page. The archive is npm's, of one pinned release, and
is taken only with the pinned hash.
"""

import base64
import hashlib
import os
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, reason_of
from paddleseg_ext.common.files import write_bytes
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track

VERSION = "1.30.0"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/{ARCHIVE}"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
BYTES = 33_106_585
PIECE = 1 << 20
WAIT_S = 30
ARCHIVE_VARIABLE = "PADDLESEG_EXT_ONNXRUNTIME_WEB"
WEBASSEMBLY = "ort-wasm-simd-threaded"
WEBGPU = "ort-wasm-simd-threaded.asyncify"
# File in a page's folder -> in the archive. Some servers do not know the suffix `.mjs`.
PAGE_FILES: Mapping[str, str] = {
    "ort.wasm.min.js": "ort.wasm.min.mjs",
    f"{WEBASSEMBLY}.js": f"{WEBASSEMBLY}.mjs",
    f"{WEBASSEMBLY}.wasm": f"{WEBASSEMBLY}.wasm",
    "ort.webgpu.min.js": "ort.webgpu.min.mjs",
    f"{WEBGPU}.js": f"{WEBGPU}.mjs",
    f"{WEBGPU}.wasm": f"{WEBGPU}.wasm",
}
NODE_FILES: Mapping[str, str] = {
    name: name for name in ("ort.wasm.min.mjs", f"{WEBASSEMBLY}.mjs", f"{WEBASSEMBLY}.wasm")
}
LICENCE = f"""ONNX Runtime Web {VERSION} (https://github.com/microsoft/onnxruntime)

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software
and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def require_archive(needed_for: str) -> Path:
    """The archive, fetched where it is not in the cache yet.

    Args:
        needed_for: the flag, for messages.

    Raises:
        UsageError: it is neither in the cache nor reachable, or another file than the pinned one.
    """
    archive = archive_file()
    if not archive.is_file():
        if named := os.environ.get(ARCHIVE_VARIABLE):
            raise UsageError(f"{ARCHIVE_VARIABLE}={named}: no such file; {_by_hand()}")
        write_bytes(archive, _fetch(needed_for))
    if archive.stat().st_size != BYTES or not _is_pinned(archive.read_bytes()):
        raise UsageError(f"{archive}: this is not onnxruntime-web {VERSION}; {_by_hand()}")
    return archive


def archive_file() -> Path:
    """Where the archive is, or will be once it was fetched."""
    named = os.environ.get(ARCHIVE_VARIABLE)
    return Path(named) if named else _cache() / ARCHIVE


def unpack(archive: Path, folder: Path, files: Mapping[str, str]) -> None:
    """Write files of `require_archive`'s archive into a folder, made if need be.

    Args:
        archive: of `require_archive`.
        folder: gets them.
        files: name -> name in the archive.
    """
    names = {f"package/dist/{source}": name for name, source in files.items()}
    with tarfile.open(archive, "r|gz") as packed:  # in one go: going back would unpack all again
        for member in packed:
            if member.name in names:
                content = packed.extractfile(member)
                assert content is not None  # the archive is the pinned one
                write_bytes(folder / names.pop(member.name), content.read())
            if not names:
                return


def _by_hand() -> str:
    return (
        f"`npm pack onnxruntime-web@{VERSION}` on a machine with network makes it, and "
        f"{ARCHIVE_VARIABLE} names it"
    )


def _cache() -> Path:
    own = os.environ.get("XDG_CACHE_HOME")
    return (Path(own) if own else Path.home() / ".cache") / "paddleseg_ext"


def _fetch(needed_for: str) -> bytes:
    log(f"{needed_for}: onnxruntime-web {VERSION} is fetched from {ADDRESS} ({BYTES / 1e6:.0f} MB)")
    try:
        with urllib.request.urlopen(ADDRESS, timeout=WAIT_S) as answer:
            pieces = track(_pieces(answer), "fetch, MiB", total=BYTES // PIECE + 1)
            return b"".join(pieces)
    except OSError as error:  # no network, no such host, a refusal
        raise UsageError(
            f"{needed_for} needs onnxruntime-web {VERSION}, and {ADDRESS} cannot be read "
            f"({reason_of(error)}); {_by_hand()}"
        ) from None


def _pieces(answer: "object") -> Iterator[bytes]:
    for _ in range(BYTES // PIECE + 1):
        yield answer.read(PIECE)  # type: ignore[attr-defined]


def _is_pinned(content: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == SHA512
