"""Exchanges of programs whose exchanges are known, and every way HLO writes groups of devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from runtime import sharding
from training.planning import collectives


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))


def found(mesh, function, *specs, out, shape=(16, 32)):
    """Rows of the collectives of a function of float32 arrays."""
    placed = [NamedSharding(mesh, spec) for spec in specs]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=s) for s in placed]
    compiled = jax.jit(function, out_shardings=NamedSharding(mesh, out)).lower(*arrays).compile()
    return collectives.totals(collectives.find(compiled.as_text(), mesh))


WHOLE = 16 * 32 * 4


def test_nothing_is_sent_where_all_is_in_place(mesh):
    assert found(mesh, jnp.sin, P("data"), out=P("data")) == []


def test_an_array_is_gathered(mesh):
    rows = found(mesh, jnp.sin, P("fsdp"), out=P())
    assert rows == [dict(kind="all-gather", axes="fsdp", size=2, count=1, bytes=WHOLE)]
    rows = found(mesh, jnp.sin, P(("data", "tensor")), out=P())
    assert sum(row["bytes"] for row in rows if row["axes"] == "data·tensor") >= WHOLE


def test_partial_sums_are_added(mesh):
    rows = found(mesh, lambda x, y: x @ y.T, P(None, "tensor"), P(None, "tensor"), out=P())
    assert rows == [dict(kind="all-reduce", axes="tensor", size=2, count=1, bytes=16 * 16 * 4)]


def test_rows_become_columns(mesh):
    rows = found(mesh, lambda x: x + 1, P("data", None), out=P(None, "data"))
    assert rows == [dict(kind="all-to-all", axes="data", size=2, count=1, bytes=WHOLE // 2)]


def test_of_branches_the_one_that_sends_most_counts(mesh):
    def function(x, y):
        def product(rows):
            part = jax.lax.with_sharding_constraint(x[:rows] @ y.T, NamedSharding(mesh, P()))
            return jnp.sin(part).sum()

        number = (x[0, 0] > 0).astype(jnp.int32) + (x[0, 1] > 0)
        return jax.lax.switch(number, [lambda rows=rows: product(rows) for rows in (2, 16, 4)])

    rows = found(mesh, function, P(None, "tensor"), P(None, "tensor"), out=P())
    sums = [row for row in rows if row["kind"] == "all-reduce"]
    assert len(sums) == 1
    assert 16 * 16 * 4 <= sums[0]["bytes"] < (16 + 4) * 16 * 4


def test_rounds_of_a_loop_count(mesh):
    def function(x, y):
        def again(total, _):
            product = jax.lax.with_sharding_constraint(total @ y.T @ y, NamedSharding(mesh, P()))
            return jnp.sin(product), None

        return jax.lax.scan(again, x, None, length=5)[0]

    rows = found(mesh, function, P(), P(None, "tensor"), out=P())
    reduced = [row for row in rows if row["kind"] == "all-reduce"]
    assert sum(row["count"] for row in reduced) == 5
    assert {row["axes"] for row in rows} == {"tensor"}


@pytest.mark.parametrize(
    ("groups", "axes", "size"),
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", ("tensor",), 2),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", ("data",), 2),
        ("replica_groups={}", ("data", "fsdp", "tensor"), 8),
        ("replica_groups=[4,2]<=[8]", ("tensor",), 2),
        ("replica_groups=[4,2]<=[4,2]T(1,0)", ("fsdp",), 2),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", ("data", "fsdp"), 4),
        ("replica_groups=[4,2]<=[2,2,2]T(0,2,1)", ("fsdp",), 2),
        ("replica_groups=mesh['x'=4,'y'=2] {'y'}", ("tensor",), 2),
        ("replica_groups=mesh['x'=4,'y'=2] {'x'}", ("data", "fsdp"), 4),
        ("replica_groups=mesh['x'=8] {'x':(1)2}", ("data",), 2),
        ("replica_groups=mesh['x'=8] {'x':(2)2}", ("fsdp",), 2),
        (
            "replica_groups=mesh['x'=2,'y'=4], device_ids=([2,2,2]T(1,0,2)) {'x'}",
            ("fsdp",),
            2,
        ),
    ],
)
def test_groups_in_every_form(mesh, groups, axes, size):
    text = f"""HloModule made_up

ENTRY %main (p: f32[4,8]) -> f32[4,8] {{
  %p = f32[4,8]{{1,0}} parameter(0)
  %gather-start = (f32[4,8]{{1,0}}, f32[8,8]{{1,0}}) all-gather-start(%p), {groups}
  ROOT %gather-done = f32[8,8]{{1,0}} all-gather-done(%gather-start)
}}
"""
    (one,) = collectives.find(text, mesh)
    assert one == collectives.Collective("all-gather", axes, size, bytes=4 * 8 * 4 * size)


def test_a_sum_and_its_split_in_one_fusion_is_a_reduce_scatter(mesh):
    text = """HloModule made_up

%all-reduce-scatter.3 (a: f32[8,4]) -> f32[4,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %sum = f32[8,4]{1,0} all-reduce(%a), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %row = u32[] constant(4)
  %column = u32[] constant(0)
  ROOT %part = f32[4,4]{1,0} dynamic-slice(%sum, %row, %column), dynamic_slice_sizes={4,4}
}

ENTRY %main (p: f32[8,4]) -> f32[4,4] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %both = f32[4,4]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.3
}
"""
    (one,) = collectives.find(text, mesh)
    assert one == collectives.Collective("reduce-scatter", ("tensor",), 2, bytes=8 * 4 * 4)


def test_groups_in_an_unknown_form_are_an_error(mesh):
    text = """HloModule made_up

ENTRY %main (p: f32[4]) -> f32[4] {
  ROOT %sum = f32[4]{0} all-reduce(%p), replica_groups=new_form, to_apply=%add
}
"""
    with pytest.raises(ValueError, match=r"not known: all-reduce.*new_form"):
        collectives.find(text, mesh)
    with pytest.raises(ValueError, match="no entry"):
        collectives.find("", mesh)
