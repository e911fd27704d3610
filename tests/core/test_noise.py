"""Known noise is dropped from stderr, and nothing else, however the process ends."""

import os
import subprocess
import sys

import pytest

from tests import test_layout

NOISE = "the notice that everybody knows"


def run(body: str, **options) -> subprocess.CompletedProcess:
    """A child process that runs `body` where the notice is dropped."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    code = (
        f"import os, sys\nfrom core import noise\nwith noise.without_lines([{NOISE!r}]):\n{lines}"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=test_layout.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("raise SystemExit(3)", 3), ("os._exit(4)", 4), ("os.kill(os.getpid(), 9)", -9)],
)
def test_what_is_no_noise_arrives_whatever_comes_next(end, status):
    body = (
        f"os.write(2, b'one\\nI0000 {NOISE}, and more\\ntw')\n"
        "os.write(2, b'o\\n')\n"
        "os.system('echo of a child >&2')\n"
        "import threading\n"
        "thread = threading.Thread(target=lambda: print('of a thread', file=sys.stderr))\n"
        "thread.start(), thread.join()\n"
        f"os.write(2, b'{NOISE}\\nno end of line')\n"
    )
    done = run(body + end)
    assert done.returncode == status
    assert done.stderr == "one\ntwo\nof a child\nof a thread\nno end of line"


def test_stderr_is_itself_again_afterwards():
    code = (
        "import os\nfrom core import noise\nbefore = os.fstat(2)\n"
        "for _ in range(2):\n  with noise.without_lines(['x']): assert os.fstat(2) != before\n"
        "assert os.fstat(2) == before\nos.write(2, b'x of later')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=test_layout.ROOT, capture_output=True, check=False
    )
    assert done.stderr == b"x of later"


def test_a_closed_stderr_stays_closed():
    body = "print(os.path.exists('/proc/self/fd/2'), flush=True)"
    done = run(body, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout.strip()) == (0, "False")


def test_tensorflow_starts_without_a_word_of_its_own():
    """Its notices do not come, and a line written while it is imported does."""
    code = (
        "import builtins, os\nreal = builtins.__import__\n"
        "def importing(name, *rest, **more):\n"
        "    if name == 'tensorflow':\n"
        "        os.write(2, b'W0000 a real warning\\n')\n"
        "        builtins.__import__ = real\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = importing\n"
        "from input_pipeline.tensorflow_modules import tf, tfds\n"
        "tfds.features.FeaturesDict({'a': tfds.features.Scalar(tf.int64)}).dtype\n"
        "os.write(2, b'done\\n')"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=test_layout.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "W0000 a real warning\ndone\n"


def test_tensorflow_is_imported_in_one_place():
    places = [
        path.relative_to(test_layout.ROOT).as_posix()
        for package in test_layout.ALLOWED
        for path in test_layout.sources(package)
        if any(
            name.split(".")[0] in ("tensorflow", "tensorflow_datasets")
            for name in test_layout.imported(path)
        )
    ]
    assert places == ["input_pipeline/tensorflow_modules.py"]
