"""The key-value store of JAX's distributed service: the one place that uses JAX's own internals.

Processes leave each other short texts there. Unlike a computation across hosts it works while
these differ or have failed. JAX gives it no public name; `tests/runtime/test_coordination.py` says
what is gone where a version of JAX moves it.
"""

from typing import Any

from jax._src import distributed


def client() -> Any:
    """The job's store, or None in a process that is alone."""
    return distributed.global_state.client


def process_id() -> int:
    """Number of this process in its job, from 0; known before any device is."""
    return distributed.global_state.process_id


def num_processes() -> int:
    """Processes of the job; 1 in a process that is alone."""
    return distributed.global_state.num_processes or 1


def start_preemption_sync() -> None:
    """Lets JAX take SIGTERM and agree with the other processes on the step to stop after."""
    distributed.global_state.initialize_preemption_sync_manager()
