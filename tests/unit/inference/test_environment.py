"""`doctor --environment`: what a report of a fault needs."""

import sys

from paddleseg_ext.common import machine
from paddleseg_ext.common.version import __version__
from paddleseg_ext.inference import environment


def _values() -> dict[str, str]:
    return dict(line.split(None, 1) for line in environment.environment_lines())


def test_versions_processor_and_engines_are_named(monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "amx_bf16", "sse"}))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    values = _values()
    assert values["paddleseg_ext"] == __version__
    assert values["Python"].startswith(sys.version.split()[0])
    assert values["processor"].endswith("; avx2 amx_bf16")
    assert values["OMP_NUM_THREADS"] == "3"
    assert any(line.startswith("engine onnxruntime") for line in environment.environment_lines())


def test_an_engine_that_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(environment, "ENGINES", {"openvino": _Missing()})
    lines = environment.environment_lines()
    assert any("not installed (pip install 'paddleseg_ext[openvino]')" in line for line in lines)


class _Missing:
    extra = "openvino"
    is_installed = False
    installed_version = None
