"""Speed of the train step alone, on made-up batches: no data, no TensorFlow.

  python benchmarks/train_step.py --size=base --batch_size=64 --dtype=bfloat16

Prints step time (median and 95th percentile), examples/s, packed positions/s and, where the
device's peak is known, MFU with the formula of training/throughput.py. `--mesh=data,fsdp,tensor`
splits it over devices, such as 2,2,2.
"""

import argparse
import json
import pathlib
import sys
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import ml_dtypes
import numpy as np

from configs import common, vlbert_pretrain
from input_pipeline.schema import SpecialIds
from training import sharding, state, step, throughput
from training.multitask import MultiTask

VOCAB, FEATURES, CLASSES, TOP = 30522, 2048, 1601, 16  # BERT's, and Visual Genome's detector


def made_up_batch(block, rng) -> dict:
    """A full stream batch with the contract's keys: every text and region is real."""
    b, t, r = block.batch_size, block.max_text, block.max_regions
    regions = min(r, block.max_length - t) if block.images else 0
    out = dict(
        text_ids=rng.integers(1000, VOCAB, (b, 1, t)).astype(np.int32),
        text_mask=np.ones((b, 1, t), bool),
        segment_ids=np.zeros((b, 1, t), np.int32),
        word_starts=np.ones((b, 1, t), bool),
        example_index=np.arange(b, dtype=np.int32),
        _weight=np.ones(b, np.float32),
    )
    if not block.images:
        return out
    corner = rng.uniform(0, 300, (b, 1, r, 2))
    size = rng.uniform(10, 200, (b, 1, r, 2))
    features = rng.standard_normal((b, 1, r, FEATURES), np.float32)
    probs = -np.sort(-rng.uniform(0, 1 / TOP, (b, 1, r, TOP)), axis=-1).astype(np.float32)
    ids = np.argsort(rng.random((b, 1, r, CLASSES)), axis=-1)[..., :TOP]
    return out | dict(
        regions=features.astype(ml_dtypes.bfloat16),
        boxes=np.concatenate([corner, corner + size], -1).astype(np.float32),
        region_mask=np.broadcast_to(np.arange(r) < regions, (b, 1, r)).copy(),
        image_size=np.full((b, 1, 2), 600, np.float32),
        num_detected=np.full((b, 1), regions - 1, np.int32),
        region_class_ids=ids.astype(np.int32),
        region_class_probs=probs,
        region_rest_prob=1 - probs.sum(-1),
        image_key=np.arange(b, dtype=np.int32)[:, None],
    )


def measure(config, steps: int) -> dict:
    """Compiles the step of a config and times `steps` of them."""
    special = SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103, vocab_size=VOCAB)
    spec = types.SimpleNamespace(feature_dim=FEATURES, num_classes=CLASSES, global_feature="mean")
    task = MultiTask(config, special, spec)
    rng = np.random.default_rng(0)
    blocks = {name: block for name, block in config.streams.items() if block.batch_size}
    host = {name: made_up_batch(block, rng) for name, block in blocks.items()}
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        maker = state.StateMaker(task, config, host, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, maker.state)
        train_step = step.make_train_step(
            task,
            maker.optimizer,
            mesh,
            shardings,
            seed=0,
            accumulate=config.optimizer.accumulate,
        )
        now, batch = maker.fresh(), sharding.place(host, mesh)
        asked = time.perf_counter()
        now, out = jax.block_until_ready(train_step(now, batch, dict.fromkeys(blocks, np.int32(0))))
        compiled = time.perf_counter() - asked
        times = []
        for draw in range(1, steps + 1):
            asked = time.perf_counter()
            now, out = jax.block_until_ready(
                train_step(now, batch, dict.fromkeys(blocks, np.int32(draw)))
            )
            times.append(time.perf_counter() - asked)
    heads = {name: sorted({o.head_name for o in task.streams[name]}) for name in blocks}
    flops = throughput.flops_per_step(config, maker.params, heads)
    peak = throughput.peak(jax.devices())
    median = float(np.median(times))
    rows = sum(block.batch_size for block in blocks.values())
    positions = sum(
        block.batch_size * throughput.row_length(config.model, block) for block in blocks.values()
    )
    return dict(
        device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        mesh=dict(mesh.shape),
        dtype=config.dtype,
        batch={name: block.batch_size for name, block in blocks.items()},
        parameters=sum(x.size for x in jax.tree.leaves(maker.params)),
        loss=float(out["pairs"]["loss"][0]),
        first_step_seconds=round(compiled, 2),
        step_ms_p50=round(1e3 * median, 2),
        step_ms_p95=round(1e3 * float(np.percentile(times, 95)), 2),
        examples_per_second=round(rows / median, 1),
        positions_per_second=round(positions / median),
        teraflops_per_step=round(flops / 1e12, 3),
        teraflops_per_second=round(flops / median / 1e12, 3),
        mfu=round(flops / median / peak, 4) if peak else None,
    )


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", choices=list(common.SIZES))
    parser.add_argument("--batch_size", type=int, default=64, help="captions in the global batch")
    parser.add_argument("--text_batch_size", type=int, default=0, help="text-only rows beside them")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--mesh", default="-1,1,1", help="devices along data,fsdp,tensor")
    args = parser.parse_args()
    config = vlbert_pretrain.get_config(f"size={args.size}")
    config.dtype = args.dtype
    config.optimizer.accumulate = args.accumulate
    config.streams.captions.batch_size = args.batch_size
    config.streams.text.batch_size = args.text_batch_size
    config.mesh = dict(zip(sharding.AXES, map(int, args.mesh.split(",")), strict=True))
    print(json.dumps(measure(config, args.steps), indent=2))


if __name__ == "__main__":
    main()
