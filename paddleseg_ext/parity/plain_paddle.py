"""Paddle Inference as Paddle and PaddleSeg set it up: none of what this project mends."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import runtime_errors

ONEDNN_SHAPE_CACHE = 10


class PlainPaddle:
    """A predictor with Paddle's own passes; a `Backend`. For negative controls and comparisons.

    Source: PaddleSeg 2.8 `deploy/python/infer.py`, but for `enable_memory_optim`, which fails on
    the graphs of Paddle 3.
    """

    def __init__(self, bundle: Bundle, enable_mkldnn: bool):
        from paddle import inference

        config = inference.Config(str(bundle.model_file), str(bundle.params_file))
        config.disable_glog_info()
        config.disable_gpu()
        config.switch_ir_optim(True)
        if enable_mkldnn:
            config.set_mkldnn_cache_capacity(ONEDNN_SHAPE_CACHE)
            config.enable_mkldnn()
        else:
            config.disable_mkldnn()
        self._config, self._file = config, bundle.model_file
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def run(self, batch: NDArray[np.float32]) -> NDArray:
        """See `Backend.run`."""
        self._input.reshape(batch.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(batch))
        with runtime_errors(self._file, "Paddle Inference", batch):
            self._predictor.run()
        return self._output.copy_to_cpu()

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`."""
        import paddle

        return {
            "name": "paddle_inference as PaddleSeg sets it up",
            "paddle": paddle.__version__,
            "device": "cpu",
            "enable_mkldnn": bool(self._config.mkldnn_enabled()),
            "cpu_threads": self._config.cpu_math_library_num_threads(),
            "precision": "fp32",
        }
