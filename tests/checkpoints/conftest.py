"""Fixtures of tests that read damaged checkpoints."""

import gc

import pytest


@pytest.fixture
def settled():
    """What Orbax leaves of reads under way when one fails is collected here, in no later test."""
    yield
    gc.collect()
