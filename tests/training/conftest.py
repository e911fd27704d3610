"""Runs that several files of tests look at; none of them changes it."""

import pytest

from tests.training import fakes, run_fake


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """(folder, summary) of a run on the fake task, in one go."""
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    summary = run_fake.run(workdir, fakes.config(total_steps=run_fake.STEPS))
    return workdir, summary
