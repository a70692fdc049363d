"""The deployment side stands without PaddleSeg, without `paddle.nn`, and starts without Paddle."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("paddle", "paddleseg"):
            raise ImportError(name + " is hidden")

sys.meta_path.insert(0, Hidden())
import paddleseg_ext.inference
names = ["paddleseg_ext.inference"]
for module in pkgutil.walk_packages(paddleseg_ext.inference.__path__, "paddleseg_ext.inference."):
    importlib.import_module(module.name)
    names.append(module.name)
assert "paddleseg_ext.inference.engines.paddle_inference" in names, names
print(*names)
"""


def test_inference_imports_with_paddle_and_paddleseg_hidden() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "paddleseg_ext.inference.pipeline" in result.stdout
