"""Real-time segmentation networks of the BiSeNet family, from training to a proven deployment.

This package and every package below it import nothing here: `import paddleseg_ext.inference` must
cost neither PaddleSeg nor `paddle.nn` (docs/design.md).
"""

__version__ = "0.1.0"
