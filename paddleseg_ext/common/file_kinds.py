"""Recognises, by their first bytes, files that are given in place of others.

A message that says what the file is sends people to the right one; one that says which byte could
not be decoded does not.
"""

from pathlib import Path

CHECKPOINT = "a checkpoint"
ZIP_MAGIC = b"PK\x03\x04"
# The pickled long 0x1950a86a20f9469cfc6c, with which PyTorch's files from before 1.6 begin.
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_BEGINNINGS = (
    (ZIP_MAGIC, "a zip file, such as a PyTorch checkpoint or an npz"),
    (LEGACY_TORCH_MAGIC, "a PyTorch checkpoint"),
    *((b"\x80" + bytes([protocol]), CHECKPOINT) for protocol in (2, 3, 4, 5)),
    (b"\x89HDF", "an HDF5 file, such as Keras writes"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
    (b"<!doctype html", "a web page, not the file itself: download it again"),
    (b"<html", "a web page, not the file itself: download it again"),
)
_SUFFIXES = {
    ".onnx": "an ONNX graph",
    ".pdiparams": "the weights of an exported graph",
    ".pdmodel": "an exported graph",
    ".json": "a JSON file, such as an exported graph",
}


def kind_of(path: Path) -> str:
    """Words for a file that is no text of ours: `an ONNX graph`; empty where it is not known.

    Args:
        path: a readable file.
    """
    with open(path, "rb") as file:
        head = file.read(32)
    for beginning, kind in _BEGINNINGS:
        if head.lower().startswith(beginning.lower()):
            return kind
    # The field `ir_version` with its number, then the name of what wrote it.
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return _SUFFIXES[".onnx"]
    if head[7:9] == b"\0{":
        return "a safetensors file"
    return _SUFFIXES.get(path.suffix.lower(), "")
