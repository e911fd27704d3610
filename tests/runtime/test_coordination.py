"""What the project uses of JAX's internals is there in the JAX that is installed."""

import pathlib

from jax._src import distributed

from runtime import coordination

ROOT = pathlib.Path(__file__).parents[2]


def test_a_process_that_is_alone_has_no_store():
    assert coordination.client() is None
    assert (coordination.process_id(), coordination.num_processes()) == (0, 1)


def test_jax_still_has_what_is_used():
    state = distributed.global_state
    assert {"client", "process_id", "num_processes"} <= vars(type(state)).keys() | vars(state)
    assert callable(state.initialize_preemption_sync_manager)


def test_no_other_file_uses_jaxs_internals():
    code = [path.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/*.py")]
    users = {
        path.as_posix()
        for path in code
        if path.parts[0] != "tests" and "jax._src" in (ROOT / path).read_text()
    }
    assert users == {"runtime/coordination.py"}
