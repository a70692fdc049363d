"""Opens what a service runs its bundle on, and says where that is not what was asked for."""

from paddleseg_ext.common.log import log, warn
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.choice import choose_backend
from paddleseg_ext.inference.engines.base import TimedBackend
from paddleseg_ext.inference.engines.open import open_backend

AUTO = "auto"


def open_service_backend(
    bundle: Bundle, name: str, precision: str, threads: int, device: str
) -> TimedBackend:
    """The backend, loaded.

    Args:
        bundle: with a graph of the backend's kind.
        name: as for `open_backend`, or `auto`: `paddle` on a GPU, what `choose_backend` takes on
            a CPU.
        precision: `fp32`, `int8`, or on a GPU `fp16`.
        threads: CPU threads of a run.
        device: `cpu` or `gpu`.

    Raises:
        UsageError: as `choose_backend` and `open_backend`.
    """
    if name == AUTO and device == "gpu":
        name = "paddle"
    elif name == AUTO:
        name, reason = choose_backend(bundle, precision)
        log(f"[SERVE] backend {name}: {reason}")
    backend = open_backend(bundle, name, precision=precision, threads=threads, device=device)
    fallen = shortfall(backend.describe(), name, precision, threads, device)
    if fallen:
        warn(f"backend {name}: {fallen}")
    return backend
