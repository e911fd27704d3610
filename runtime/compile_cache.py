"""Compiled programs kept in a folder, so that the next start of a run need not compile them again.

Who can write to the folder decides what later runs execute: share it with nobody you do not trust.
On CPUs a folder belongs to one kind of processor; on GPUs and TPUs the key tells devices apart.
"""

import jax
from jax.experimental.compilation_cache import compilation_cache


def enable(folder: str) -> None:
    """Keeps every program compiled from now on in `folder`, and takes from it what is there.

    Programs compiled before the call are not kept. With several processes all of them read and the
    first one writes; the folder must be one that all of them see. Nothing is ever removed from it.

    Args:
      folder: of this machine, or gs://; made where it is not there. "": nothing is kept.
    """
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # JAX leaves out what compiles in less than a second; a start has hundreds of such programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX looks at the setting once, at the first compilation, which may have been earlier.
    compilation_cache.reset_cache()
