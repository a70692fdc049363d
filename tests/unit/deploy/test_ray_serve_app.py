"""A replica of the service on Ray Serve has what `serve` has; Ray is not started."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ray.serve")

from fastapi.testclient import TestClient
from pydantic import ValidationError

from deploy.ray import serve_app
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.serving.options import ServeOptions

KEY = "0123456789abcdef"


class FlatNetwork(Engine):
    """Class 1 everywhere."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        return np.ones((len(batch), *batch.shape[2:]), np.int32)

    def describe(self) -> RuntimeReport:
        return RuntimeReport("flat")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RuntimeSpec]:
    """The runtimes that were opened."""
    calls: list[RuntimeSpec] = []

    def open_engine(_: Bundle, spec: RuntimeSpec) -> FlatNetwork:
        calls.append(spec)
        return FlatNetwork()

    silent = Bundle(Path("d.yaml"), Path("m.json"), Path("p"), [], None, "argmax", None)
    monkeypatch.setattr("paddleseg_ext.inference.predictor.open_engine", open_engine)
    monkeypatch.setattr("paddleseg_ext.common.machine.has_gpu_build", lambda: True)
    monkeypatch.setattr(serve_app, "read_bundle", lambda _: silent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    return calls


def arguments(**given: str) -> serve_app.Arguments:
    """As `serve run` gives them: every value a text."""
    return serve_app.Arguments.model_validate({"config": "d.yaml", "num_classes": "2"} | given)


def test_the_key_of_a_file_is_demanded(asked: list[RuntimeSpec], tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    app = serve_app.load(arguments(api_key_file=str(tmp_path / "key")))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/v1/model").status_code == 401
        authorised = client.get("/v1/model", headers={"Authorization": f"Bearer {KEY}"})
        assert authorised.status_code == 200
    (tmp_path / "key").write_text("short\n")
    with pytest.raises(UsageError, match="--api_key_file"):
        serve_app.load(arguments(api_key_file=str(tmp_path / "key")))


def test_no_key_and_an_old_opencv_are_warned_of(
    asked: list[RuntimeSpec], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cv2, "__version__", "4.5.5")
    serve_app.load(arguments())
    said = capsys.readouterr().out
    assert "no api_key_file" in said and "OpenCV 4.5.5" in said


@pytest.mark.parametrize(("allowed", "status"), [("", 421), ("other.name,seg.example", 200)])
def test_a_page_under_another_name_is_refused(
    asked: list[RuntimeSpec], allowed: str, status: int
) -> None:
    app = serve_app.load(arguments(allowed_host=allowed))
    with TestClient(app, base_url="http://seg.example") as client:
        assert client.get("/v1/model").status_code == status


def test_what_runs_it_is_an_argument(asked: list[RuntimeSpec]) -> None:
    app = serve_app.load(
        arguments(backend="openvino", precision="int8", cpu_threads="2", num_classes="7")
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert len(client.get("/v1/model").json()["classes"]) == 7
    serve_app.load(arguments(replica_gpus="0.5", precision="fp16"))
    serve_app.load(arguments(backend="openvino_int8"))
    assert asked == [
        RuntimeSpec("openvino", "int8", threads=2),
        RuntimeSpec("paddle", "fp16", "gpu", threads=1),
        RuntimeSpec("openvino", "int8", threads=1),
    ]


def test_a_replica_asks_ray_for_what_it_uses() -> None:
    deployment = serve_app.build(arguments(replica_gpus="0.5", cpu_threads="2", replicas="3"))
    bound = deployment._bound_deployment
    assert bound.num_replicas == 3
    assert bound.ray_actor_options["num_gpus"] == 0.5
    assert bound.ray_actor_options["num_cpus"] == 2
    with pytest.raises(UsageError, match="replica_gpus=1"):
        serve_app.build(arguments(device="gpu"))


@pytest.mark.parametrize(
    "given", [{"backend": "torch"}, {"queue_size": "0"}, {"max_pixels": "1"}, {"precision": "fp8"}]
)
def test_wrong_arguments_are_refused(given: dict) -> None:
    with pytest.raises(ValidationError):
        arguments(**given)


def test_options_have_the_names_defaults_and_texts_of_serve() -> None:
    options = ServeOptions(num_classes=2)
    shared = arguments()
    for name in ("max_batch", "max_wait_ms", "queue_size", "deadline", "max_mib", "num_classes"):
        assert getattr(shared, name) == getattr(options, name)
    assert arguments(deadline="2.5", max_wait_ms="0").deadline == 2.5
    assert serve_app.Arguments(config="d.yaml", queue_size=3, device=None).queue_size == 3
    with pytest.raises(ValidationError, match="at least 1, got '0'"):
        arguments(max_batch="0")
    with pytest.raises(ValidationError, match="queue_size"):
        serve_app.Arguments(config="d.yaml", queue_size=None)
