"""TensorFlow and TensorFlow Datasets as `tf` and `tfds`: the one place that imports them.

They take seconds to import, so what may do without imports this module in functions. TensorFlow is
kept off the accelerators: it would take their memory from the model. Its start-up notices, which
say nothing about this program's work, are left out; warnings and errors pass. Keras, which it
imports beside and nothing here needs, waits until somebody does: a third of the time.
"""

import contextlib
import importlib.abc
import importlib.machinery
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

from core import noise

# Of TensorFlow's C++ code, which writes them to file descriptor 2 whatever its log level.
NOTICES = (
    "All log messages before absl::InitializeLog() is called are written to STDERR",
    "oneDNN custom operations are on.",
    "Could not find cuda drivers on your machine, GPU will not be used.",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions:",
    # A build for GPUs: what registers twice is used once.
    "Unable to register cuDNN factory",
    "Unable to register cuBLAS factory",
    "Unable to register cuFFT factory",
    "TF-TRT Warning: Could not find TensorRT",
    "failed call to cuInit",  # it looks for devices, which it is not to use
)
# TensorFlow Datasets warns so of its own code.
_DEPRECATED = "`FeatureConnector.dtype` is deprecated."

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings, errors; no notices of its work
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


class _Later(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder and loader that finds a package and refuses to run it."""

    def __init__(self, package: str):
        self._package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._package:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        del spec  # an ordinary module

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(f"{module.__name__} is left out while TensorFlow is imported")


@contextlib.contextmanager
def _without(package: str) -> Iterator[None]:
    """Importing a package fails meanwhile, unless it has been imported before."""
    later = _Later(package)
    sys.meta_path.insert(0, later)
    try:
        yield
    finally:
        sys.meta_path.remove(later)


# TensorFlow imports Keras if it can, so that what it registers is there, and loads `tf.keras` when
# it is used, whether or not.
with noise.without_lines(NOTICES), _without("keras"):
    import tensorflow as tf

    # Loads its parts on first use, TensorFlow among them.
    import tensorflow_datasets as tfds

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
logging.getLogger("absl").addFilter(lambda record: _DEPRECATED not in str(record.msg))

__all__ = ["NOTICES", "tf", "tfds"]
