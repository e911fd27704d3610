"""Eight virtual CPU devices for every test, set before JAX starts; and a bucket for some."""

import atexit
import importlib.util
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: optimizing their programs costs more than it saves. An
# environment variable, so that the child processes they compare with compile alike.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Child processes keep no programs, unless a test says where: the user's own folder stays as it is.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jaxtyping

# Types and shapes of these packages' annotations are checked at each call; before any is imported.
CHECKED = (
    "vl_models",
    "objectives",
    "training.optimizer",
    "training.schedules",
    "training.state",
    "training.step",
)
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

import gcs_server  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)

# Compilation is most of the suite's time, and many tests compile the same program. The cache is
# this session's own: another machine's code never comes in, and child processes do not see it.
_CACHE = tempfile.mkdtemp(prefix="jax_cache_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
jax.config.update("jax_enable_compilation_cache", True)
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


class Bucket:
    """A bucket of its own on the stand-in for Google Cloud Storage."""

    def __init__(self):
        self.server = gcs_server.shared()
        self.server.forget()
        self.name = self.server.new_bucket()
        self.url = f"gs://{self.name}"
        self.objects = self.server.buckets[self.name]

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in sorted(self.objects) if name.startswith(prefix)]

    def copy(self, folder, to: str) -> None:
        """As `gcloud storage cp -r` does."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{to}/{path.relative_to(folder).as_posix()}"
                self.server.put(self.name, name, path.read_bytes())

    def asked(self, method: str, name: str) -> int:
        return self.server.asked[method, name]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An empty bucket; copies go below tmp_path."""
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip('gs:// needs gcsfs: pip install -e ".[gcs]"')
    monkeypatch.setenv("VL_CACHE", str(tmp_path / "cache"))
    return Bucket()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """(folder, summary) of a run on the fake task, in one go; no test changes it."""
    from tests.training import fakes, run_fake

    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    summary = run_fake.run(workdir, fakes.config(total_steps=run_fake.STEPS))
    return workdir, summary
