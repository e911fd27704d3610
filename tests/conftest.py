"""Eight virtual CPU devices for every test, set before JAX starts."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: optimizing their programs costs more than it saves. An
# environment variable, so that the child processes they compare with compile alike.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax

jax.config.update("jax_num_cpu_devices", 8)

# Compilation is most of the suite's time, and many tests compile the same program. The cache is
# this session's own: another machine's code never comes in, and child processes do not see it.
_CACHE = tempfile.mkdtemp(prefix="jax_cache_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
