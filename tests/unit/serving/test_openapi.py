"""What OpenAPI promises holds for whatever a client makes of it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.options import ServiceSettings
from paddleseg_ext.serving.service import SegmentationService

from .conftest import BOUNDS, BrightnessNetwork, make_predictor

OPERATIONS = {
    "/": "GET",
    "/docs": "GET",
    "/v1/segment": "POST",
    "/v1/segment:batch": "POST",
    "/v1/model": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/metrics": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/models/{name}/ready": "GET",
    "/v2": "GET",
    "/v2/models/{name}": "GET",
    "/v2/models/{name}/infer": "POST",
    "/samples/{number}.png": "GET",
}
# Those with a query or a body, where a client can get something wrong.
WITH_INPUT = ("/v1/segment", "/v1/segment:batch", "/v2/models/{name}/infer")
CASES = [
    *((path, schemathesis.GenerationMode.POSITIVE) for path in OPERATIONS),
    *((path, schemathesis.GenerationMode.NEGATIVE) for path in WITH_INPUT),
]
# Bytes that the schema allows are hardly ever an image; such get a 4xx, as they should.
IMAGES_ARE_RARE = [positive_data_acceptance]


@asynccontextmanager
async def kept_open(_: object) -> AsyncIterator[None]:
    """Every request starts and stops the application; the service stays."""
    yield


@pytest.fixture(scope="module")
def service() -> Iterator[SegmentationService]:
    bounds = ServiceSettings(**BOUNDS, max_batch=2, max_wait_ms=1, queue_size=4, deadline=10)
    made = SegmentationService(make_predictor(BrightnessNetwork()), bounds)
    yield made
    made.close()


@pytest.mark.parametrize(("path", "mode"), CASES)
def test_no_surprise(path: str, mode: Any, service: SegmentationService) -> None:
    """No 5xx, no status, type or body that the description does not have."""
    app = create_app(service)
    app.router.lifespan_context = kept_open
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operation = schema[path][OPERATIONS[path]]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=16 if path in WITH_INPUT else 4,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=IMAGES_ARE_RARE)

    check()


def test_every_path_is_described(service: SegmentationService) -> None:
    description = create_app(service, "0123456789abcdef").openapi()
    assert {path: next(iter(item)).upper() for path, item in description["paths"].items()} == (
        OPERATIONS
    )
    with_input = [
        path
        for path, item in description["paths"].items()
        for operation in item.values()
        if "requestBody" in operation
        or any(parameter["in"] == "query" for parameter in operation.get("parameters", ()))
    ]
    assert with_input == list(WITH_INPUT)
    segment = description["paths"]["/v1/segment"]["post"]
    assert set(segment["responses"]) == {"200", "400", "401", "408", "413", "415", "422", "503"}
    assert set(segment["requestBody"]["content"]) >= {"image/png", "multipart/form-data"}
    assert segment["security"] == [{"HTTPBearer": []}]
