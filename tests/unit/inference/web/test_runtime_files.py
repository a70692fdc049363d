"""ONNX Runtime Web: where it is taken from, and what is said where it cannot be."""

import io
import tarfile
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.web import runtime_files


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Content that is pinned here; the cache is empty."""
    monkeypatch.delenv(runtime_files.ARCHIVE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("other", *runtime_files.PAGE_FILES.values()):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    content = packed.getvalue()
    monkeypatch.setattr(runtime_files, "BYTES", len(content))
    monkeypatch.setattr(runtime_files, "_is_pinned", lambda found: found == content)
    return content


def no_network(*_: Any, **__: Any) -> None:
    raise urllib.error.URLError("no network")


def test_it_is_fetched_once(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(archive))
    found = runtime_files.require_archive("--web")
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert runtime_files.require_archive("--web") == found
    runtime_files.unpack(found, tmp_path / "page", runtime_files.PAGE_FILES)
    written = {file.name: file.read_text() for file in (tmp_path / "page").iterdir()}
    assert written == dict(runtime_files.PAGE_FILES)


def test_without_network_a_line_says_what_to_do(
    archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(UsageError) as refused:
        runtime_files.require_archive("--web")
    line = str(refused.value)
    assert line.startswith("--web needs onnxruntime-web ") and "no network" in line
    assert "npm pack onnxruntime-web@" in line and runtime_files.ARCHIVE_VARIABLE in line


def test_another_file_is_refused(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(archive[:-1] + b"x")
    monkeypatch.setenv(runtime_files.ARCHIVE_VARIABLE, str(other))
    with pytest.raises(UsageError, match=r"other\.tgz: this is not onnxruntime-web"):
        runtime_files.require_archive("--web")
    monkeypatch.setenv(runtime_files.ARCHIVE_VARIABLE, str(tmp_path / "none.tgz"))
    with pytest.raises(UsageError, match="no such file"):
        runtime_files.require_archive("--web")
