"""Flags for exchanges beside computation: only those that the installed XLA knows."""

import importlib.machinery
import os
import pathlib
import subprocess
import sys

import jaxlib
import pytest

from runtime import xla_flags

JAXLIB = pathlib.Path(jaxlib.__file__).parent / "libjax_common.so"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(package, library, flags): makes a package that has a library with these flags."""
    places = {}

    def find(name):
        if name not in places:
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(places[name])]
        return spec

    def install(package, library, flags):
        places[package] = tmp_path / package
        places[package].mkdir()
        text = b"\x7fELF\0" + b"".join(f"{flag}\0".encode() for flag in flags)
        (places[package] / library).write_bytes(text)

    monkeypatch.setattr(xla_flags.importlib.util, "find_spec", find)
    return install


def test_a_tpu_gets_the_flags_that_its_library_knows(installed):
    installed("libtpu", "libtpu.so", [xla_flags.TPU[0], xla_flags.TPU[1] + "_more"])
    assert xla_flags.assignment({}) == f"LIBTPU_INIT_ARGS=--{xla_flags.TPU[0]}=true"


def test_what_is_set_already_wins(installed):
    installed("libtpu", "libtpu.so", xla_flags.TPU[:2])
    given = f"--{xla_flags.TPU[1]}=false --other"
    found = xla_flags.assignment(dict(LIBTPU_INIT_ARGS=given))
    assert found == f"LIBTPU_INIT_ARGS=--{xla_flags.TPU[0]}=true {given}"


def test_a_gpu_gets_what_plugin_and_jaxlib_know(installed):
    installed("jaxlib", "libjax_common.so", xla_flags.GPU)
    assert xla_flags.assignment({}) == ""
    installed("jax_plugins.xla_cuda12", "xla_cuda_plugin.so", xla_flags.GPU)
    assert xla_flags.assignment({}) == f"XLA_FLAGS=--{xla_flags.GPU[0]}=true"
    installed("jax_plugins.xla_cuda13", "xla_cuda_plugin.so", ["xla_other"])
    assert xla_flags.assignment({}) == ""


def test_the_flags_of_gpus_are_in_the_jaxlib_that_is_installed():
    assert xla_flags.known([*xla_flags.GPU, "xla_gpu_no_such_flag"], JAXLIB) == [*xla_flags.GPU]


def test_as_a_program_it_prints_nothing_where_there_is_no_accelerator():
    for package in ("libtpu", *(name.split(".")[1] for name in xla_flags.CUDA)):
        if xla_flags.importlib.util.find_spec(package):
            pytest.skip("an accelerator's XLA is installed")
    command = [sys.executable, "-m", "runtime.xla_flags"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "\n"
