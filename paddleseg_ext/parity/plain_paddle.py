"""Paddle Inference as Paddle and PaddleSeg set it up, with none of this project's corrections."""

from typing import Any

from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.paddle_inference import ONEDNN_SHAPE_CACHE, PaddleInference


class PlainPaddle(PaddleInference):
    """Paddle Inference with oneDNN and all of Paddle's own passes, on a CPU; a negative control.

    Source: PaddleSeg 2.8 `deploy/python/infer.py`, but for `enable_memory_optim`, which fails on
    the graphs of Paddle 3.
    """

    def _make_config(self, bundle: Bundle) -> Any:
        from paddle import inference

        config = inference.Config(str(bundle.model_file), str(bundle.params_file))
        config.disable_glog_info()
        config.disable_gpu()
        config.switch_ir_optim(True)
        config.set_mkldnn_cache_capacity(ONEDNN_SHAPE_CACHE)
        config.enable_mkldnn()
        return config
