"""Packages of the wheel; everything else is in pyproject.toml.

configs/ lies at the top of the project and is installed as paddleseg_ext/configs.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["paddleseg_ext*"]), "paddleseg_ext.configs"],
    package_dir={"paddleseg_ext.configs": "configs"},
)
