"""The exported graph run by the training framework itself, without Paddle Inference."""

import time

from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import GraphEngine, RunTimes
from paddleseg_ext.inference.runtime import RuntimeReport


class StaticGraph(GraphEngine):
    """A bundle loaded by `paddle.jit.load`.

    It has the kernels of dynamic graph, so a difference is what tracing changed and nothing else.
    """

    title = "Paddle"

    def _load(self, bundle: Bundle) -> None:
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

    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        import paddle

        started = time.perf_counter()
        with paddle.no_grad():
            output = self._graph(paddle.to_tensor(tensor))
        # PaddleSeg's exports return every head; the main one comes first.
        array = (output[0] if isinstance(output, list | tuple) else output).numpy()
        return array, RunTimes(0.0, time.perf_counter() - started, synchronised=True)

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`."""
        import paddle

        return RuntimeReport(
            name="static_graph",
            version=paddle.__version__,
            device=paddle.get_device().partition(":")[0],
            details={"paddle": paddle.__version__, "paddle_commit": paddle.version.commit},
        )
