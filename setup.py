"""Builds memkern._native with CMake; everything else about the package stands in pyproject.toml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def readme() -> str:
    """README.md for readers outside the repository: links into it become plain text, pictures their titles."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = r"\((?!https?://)[^)]*\)"
    text = re.sub(rf"!\[([^\]]*)\]{inside}", r"*\1*", text)
    return re.sub(rf"\[([^\]]*)\]{inside}", r"\1", text)


class CMakeBuild(build_ext):
    """Runs CMake + Ninja and puts the module where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        """Configures, builds and installs the one compiled module."""
        import pybind11

        destination = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # One folder per interpreter, so that builds for several Pythons of one checkout do not mix.
        build = Path(self.build_temp).resolve() / f"cmake-{sys.implementation.cache_tag}"
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_INSTALL_PREFIX={destination}", *os.environ.get("CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        # Ninja alone starts a job more than there are processors; on two, they only get into each other's way.
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        subprocess.run(["cmake", "--build", str(build), "--target", "install", "--parallel", jobs], check=True)


setup(
    ext_modules=[Extension("memkern._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    long_description=readme(),
    long_description_content_type="text/markdown",
)
