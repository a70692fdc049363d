"""The HTTP service on Ray Serve: the same routes and answers, replicated over a cluster.

  serve run deploy.ray.serve_app:build config=bundle/deploy.yaml replicas=2

Arguments: config (deploy.yaml, on every node), backend, cpu_threads, replicas.
"""

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from paddleseg_ext.inference.backends.open import open_backend
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.class_table import find_class_table
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.images import ImageLimits
from paddleseg_ext.serving.service import SegmentationService, ServiceSettings


class Arguments(BaseModel):
    """What `serve run` takes behind the application's name."""

    model_config = ConfigDict(extra="forbid")
    config: str
    backend: str = "paddle"
    cpu_threads: int = 1
    replicas: int = 1
    queue_size: int = 16
    max_batch: int = 1
    max_wait_ms: float = 5
    deadline_s: float = 30
    max_bytes: int = 16 << 20
    max_pixels: int = 8_400_000


def load(arguments: Arguments) -> FastAPI:
    """The application of one replica."""
    from paddleseg_ext.common.machine import fix_thread_count

    fix_thread_count(arguments.cpu_threads)
    bundle = read_bundle(arguments.config)
    backend = open_backend(bundle, arguments.backend, threads=arguments.cpu_threads)
    settings = ServiceSettings(
        limits=ImageLimits(arguments.max_bytes, arguments.max_pixels),
        max_batch=arguments.max_batch,
        max_wait_ms=arguments.max_wait_ms,
        queue_size=arguments.queue_size,
        deadline_s=arguments.deadline_s,
    )
    table = find_class_table(bundle, backend, None)
    return create_app(SegmentationService(bundle, backend, table, settings))


def build(arguments: Arguments) -> Application:
    """What `serve run` starts; each replica loads its own predictor."""

    @serve.ingress(lambda: load(arguments))
    class Segmentation:
        """A replica."""

    deployment = serve.deployment(Segmentation).options(
        num_replicas=arguments.replicas,
        # The service bounds its own queue and answers 503 itself.
        max_ongoing_requests=2 * arguments.queue_size,
        ray_actor_options={"num_cpus": arguments.cpu_threads},
    )
    return deployment.bind()
