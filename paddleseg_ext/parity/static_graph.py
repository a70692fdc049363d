"""The exported graph run by the training framework itself, without Paddle Inference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Backend, runtime_errors
from paddleseg_ext.inference.engines.open import open_backend
from paddleseg_ext.inference.engines.tensorrt import TensorRtOptions
from paddleseg_ext.parity.stages import STATIC, Stage


def open_stage(
    bundle: Bundle,
    stage: Stage,
    threads: int | None = None,
    tensorrt: TensorRtOptions | None = None,
) -> Backend:
    """A bundle in the runtime of a stage, `static` included.

    Args:
        threads: of a run; None means every available core. `static` has no such setting.
        tensorrt: the shapes of a TensorRT stage; None takes the bundle's fixed one.

    Raises:
        UsageError: see `open_backend` and `StaticGraph`.
    """
    if stage.runtime == STATIC:
        return StaticGraph(bundle)
    return open_backend(
        bundle,
        stage.runtime,
        precision=stage.precision,
        threads=threads,
        device=stage.device,
        use_trt=stage.use_trt,
        tensorrt=tensorrt,
    )


class StaticGraph:
    """A bundle loaded by `paddle.jit.load`; a `Backend`.

    It has the kernels of dynamic graph, so it shows what tracing changed and nothing else.
    """

    def __init__(self, bundle: Bundle):
        """
        Raises:
            UsageError: Paddle cannot load the graph.
        """
        import paddle

        if bundle.is_onnx or (bundle.is_legacy and not paddle.__version__.startswith("2.")):
            raise UsageError(
                f"{bundle.model_file}: Paddle {paddle.__version__} cannot load such a graph "
                "outside Paddle Inference; leave 'static' out of --stages"
            )
        prefix = bundle.model_file.with_suffix("")
        if bundle.params_file != prefix.with_suffix(".pdiparams"):
            raise UsageError(
                f"{bundle.params_file}: paddle.jit.load expects {prefix.name}.pdiparams beside "
                f"{bundle.model_file.name}"
            )
        try:
            self._graph = paddle.jit.load(str(prefix))
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"{bundle.model_file}: Paddle cannot load it: {error}") from error
        self._graph.eval()
        self._file = bundle.model_file

    def run(self, batch: NDArray[np.float32]) -> NDArray:
        """See `Backend.run`."""
        import paddle

        with runtime_errors(self._file, "Paddle", batch), paddle.no_grad():
            output = self._graph(paddle.to_tensor(batch))
        # PaddleSeg's exports return every head; the main one comes first.
        return (output[0] if isinstance(output, list | tuple) else output).numpy()

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`."""
        import paddle

        return {
            "name": "static_graph",
            "paddle": paddle.__version__,
            "paddle_commit": paddle.version.commit,
            "device": paddle.get_device().partition(":")[0],
            "precision": "fp32",
        }
