"""Estimates of a step's time against sums worked out by hand."""

import types

import numpy as np
import pytest

from runtime import data_sheets
from training.planning import step_time

PROGRAM = """HloModule made_up

%body (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %twice = f32[4]{0} fusion(%p), kind=kLoop, calls=%inner, backend_config={"estimated_cycles":"7"}
}

%inner (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  ROOT %sum = f32[4]{0} add(%q, %q)
}

%cheap (c: f32[4]) -> f32[4] {
  ROOT %c = f32[4]{0} parameter(0)
}

%dear (d: f32[4]) -> f32[4] {
  %d = f32[4]{0} parameter(0)
  ROOT %e = f32[4]{0} copy(%d), backend_config={"flag_configs":[],"estimated_cycles":"100"}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %loop = f32[4]{0} while(%x), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %one = f32[4]{0} copy(%loop), backend_config={"estimated_cycles":"1000"}
  ROOT %way = f32[4]{0} conditional(%x, %x, %x), branch_computations={%cheap, %dear}
}
"""  # noqa: E501


def test_cycles_are_those_of_everything_that_runs():
    assert step_time.cycles(PROGRAM) == 1000 + 5 * 7 + 100  # of branches the one that takes longer
    unknown = PROGRAM.replace('"1000"', '"9223372036854775807"')  # of a SparseCore's work
    assert step_time.cycles(unknown) == 5 * 7 + 100
    assert step_time.cycles(PROGRAM.replace("estimated_cycles", "other")) is None


def mesh(data, fsdp, tensor):
    shape = (data, fsdp, tensor)
    return types.SimpleNamespace(
        shape=dict(data=data, fsdp=fsdp, tensor=tensor),
        axis_names=("data", "fsdp", "tensor"),
        devices=np.zeros(shape),
    )


def seconds(kind, axes, size, where, sheet):
    row = dict(kind=kind, axes=axes, size=size, count=1, bytes=64e9)
    return step_time.exchange_seconds([row], where, sheet)


def test_exchanges_within_a_slice():
    sheet = data_sheets.TPUS["v5e"]  # 200 GB/s
    assert seconds("all-gather", "data", 16, mesh(16, 1, 1), sheet) == pytest.approx(0.32 * 15 / 16)
    assert seconds("all-reduce", "data", 16, mesh(16, 1, 1), sheet) == pytest.approx(0.64 * 15 / 16)
    assert seconds("collective-permute", "fsdp", 2, mesh(4, 4, 1), sheet) == pytest.approx(0.32)
    assert seconds("all-to-all", "fsdp", 4, mesh(4, 4, 1), sheet) == pytest.approx(0.32 * 3 / 4)


def test_exchanges_between_machines_share_their_network():
    sheet = data_sheets.GPUS["h100"]  # 450 GB/s within eight, 50 GB/s of each between them
    inside = seconds("reduce-scatter", "fsdp", 8, mesh(2, 8, 1), sheet)
    assert inside == pytest.approx(64 / 450 * 7 / 8)
    # Two machines of eight: each device sends an eighth of what its machine owes the other.
    both = seconds("all-reduce", "data·fsdp", 16, mesh(2, 8, 1), sheet)
    assert both == pytest.approx(2 * inside + 2 * 64 / 50 / 8 / 2)
    # Pairs with a device in either machine have no link at all.
    apart = seconds("all-gather", "data", 2, mesh(2, 8, 1), sheet)
    assert apart == pytest.approx(64 / 50 / 2)
    assert seconds("collective-permute", "data", 2, mesh(2, 8, 1), sheet) == pytest.approx(64 / 50)
    exchanged = seconds("all-to-all", "data·fsdp", 16, mesh(2, 8, 1), sheet)
    assert exchanged == pytest.approx(64 / 450 * 7 / 16 + 64 / 50 * 8 / 16)


def test_the_three_estimates():
    sheet = data_sheets.TPUS["v5e"]
    found = step_time.estimates(
        sheet=sheet, devices=16, operations=0.25 * 16 * 197e12, mfu=0.5, examples=256,
        cycles=1_500_000, moved=819e9 / 8, exchanges=0.5,
    )  # fmt: skip
    assert found["assumed"] == dict(mfu=0.5, seconds=0.5, examples_per_second=512)
    roofline = found["roofline"]
    assert [roofline[k] for k in ("compute", "memory", "exchanges")] == [0.25, 0.125, 0.5]
    assert (roofline["seconds"], roofline["examples_per_second"]) == (0.5, 512)
    assert found["xla"]["seconds"] == pytest.approx(1e-3, rel=0.01)  # at 1.5 GHz
    assert found["expected"]["seconds"] == 0.5 + found["xla"]["seconds"]
    assert found["expected"]["by"] == "XLA's cycles and exchanges"
    unknown = step_time.estimates(
        sheet=sheet, devices=1, operations=197e12, mfu=0.5, examples=1,
        cycles=None, moved=None, exchanges=None,
    )  # fmt: skip
    assert unknown["xla"] is None
    assert unknown["roofline"]["seconds"] == 1
    by = "the assumed MFU or memory, without exchanges"
    assert unknown["expected"] == dict(seconds=2, examples_per_second=0.5, by=by)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v4", "TPU v4"),
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("TPU v5p", "TPU v5p"),
        ("TPU v6 lite", "TPU v6e"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA L4", "L4"),
    ],
)
def test_devices_are_known_by_the_names_that_jax_gives_them(kind, name):
    assert data_sheets.of(kind).name == name
    assert data_sheets.of(kind.replace("NVIDIA ", "NVIDIA X").replace("TPU", "NPU")) is None


def test_clocks_are_those_that_are_known():
    clocks = {name: sheet.clock for name, sheet in data_sheets.TPUS.items()}
    assert clocks == pytest.approx(dict(v4=1.05e9, v5e=1.5e9, v5p=1.75e9, v6e=1.75e9), rel=0.003)
