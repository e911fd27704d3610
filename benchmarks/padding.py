"""How long texts are, how many regions images have, and how much padding buckets save on a config.

  python benchmarks/padding.py --config=configs/vlbert_pretrain.py \
      --config.streams.captions.buckets="((13,6,16),(16,7,20))"

Reads `--draws` training batches of each stream with images, without buckets and with the config's.
Prints what examples keep of text and regions, and the `--propose` buckets with which rows have the
fewest positions; then, by size, the batches that have it, and over all of them the padding (as
training logs it, for an example's first text and image) and the model operations, 100 % being those
of the full size. Nothing is trained or compiled.
"""

import functools
import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from absl import app, flags

from core import flags as command_line
from input_pipeline.streams import limits
from runtime import sharding
from training import setup, state
from training.run import throughput

PERCENT = (5, 25, 50, 75, 90, 95, 99, 100)

STEPS = 16  # sizes of texts and of regions that proposed buckets are chosen from

flags.DEFINE_integer("draws", 128, "batches to read; buckets are planned 64 draws at a time", 1)
flags.DEFINE_integer("propose", 3, "buckets to propose, beside the stream's own sizes", 1)


def propose(lengths: np.ndarray, model, block, count: int) -> tuple[limits.Bucket, ...]:
    """The buckets with which all examples together have the fewest positions.

    A chain of rising sizes, found exactly by dynamic programming over sizes at `STEPS` percentiles
    of the lengths. Of batches that mix buckets, and of rows that a batch lacks, it knows nothing.

    Args:
      lengths: int [2, examples], tokens of text and regions, as they are after the stream's cuts.
      model: `config.model`.
      block: of the stream.
      count: at most so many buckets beside the stream's own sizes.

    Returns:
      From small to large, without the stream's own.
    """
    own = limits.sizes(block)[-1]
    steps = np.linspace(0, 100, STEPS + 1)[1:]
    quantiles = [np.unique(np.percentile(x, steps).astype(int)) for x in [*lengths, lengths.sum(0)]]
    if model.name == "vlbert":  # rows are packed: what counts is text and regions together
        sizes = [limits.Bucket(min(n, own[0]), min(n, own[1]), n) for n in quantiles[2].tolist()]
    else:
        pairs = itertools.product(*(x.tolist() for x in quantiles[:2]))
        sizes = [limits.Bucket(text, regions, text + regions) for text, regions in pairs]
    sizes = [one for one in sizes if one[0] >= 3 and one[1] >= 2 and one[2] >= max(4, one[0])]
    sizes = [*sorted({one for one in sizes if one[:2] != own[:2]}, key=sum), own]
    fit = [int((limits.smallest((one, own), *lengths) == 0).sum()) for one in sizes]
    cost = [throughput.row_length(model, block, one) for one in sizes]
    # best[n]: (positions of the examples that fit size n, the rising sizes that end with it).
    best = [(fit[n] * cost[n], (n,)) for n in range(len(sizes))]
    for _ in range(count):
        longer = []
        for n in range(len(sizes)):
            chains = [
                (best[m][0] + (fit[n] - fit[m]) * cost[n], (*best[m][1], n))
                for m in range(n)
                if all(a <= b for a, b in zip(sizes[m], sizes[n], strict=True))
            ]
            longer.append(min([best[n], *chains], key=lambda chain: (chain[0], len(chain[1]))))
        best = longer
    return tuple(sizes[n] for n in best[-1][1][:-1])


def measure(config, parts, flops, draws: int):
    """({stream: [text, regions] int [2, examples]}, {stream: {size: batches}}, real, all, work)."""
    kept, counts, real, slots, work = {}, {}, 0, 0, 0.0
    plan = (dict.fromkeys(parts.example, draw) for draw in range(draws))
    for _, batch in parts.batches(plan):
        work += flops(batch)
        for name, arrays in batch.items():
            block = config.streams[name]
            if not block.images:
                continue
            size = next(s for s in limits.sizes(block) if s[:2] == limits.shape_of(arrays))
            masks = arrays["text_mask"][:, 0], arrays["region_mask"][:, 0]
            lengths = np.stack([mask.sum(-1) for mask in masks])
            kept.setdefault(name, []).append(lengths)
            sizes = counts.setdefault(name, dict.fromkeys(limits.sizes(block), 0))
            sizes[size] += 1
            end = config.model.name == "vlbert"  # [END] of packed rows
            real += lengths.sum() + end * lengths.shape[1]
            slots += throughput.row_length(config.model, block, size) * lengths.shape[1]
    return {name: np.concatenate(x, 1) for name, x in kept.items()}, counts, real, slots, work


def main(_):
    """Prints the table."""
    config = flags.FLAGS.config
    mesh = sharding.make_mesh(config.mesh)
    buckets = {name: block.buckets for name, block in config.streams.items()}
    with config.unlocked():
        config.evals = {}
    before = None
    with jax.set_mesh(mesh):
        for title in ("without buckets", "with buckets"):
            for name, block in config.streams.items():
                block.buckets = buckets[name] if before else ()
            parts = setup.build(config, mesh)
            params = state.StateMaker(parts.model, config, parts.example, mesh).params
            kept, counts, real, slots, work = measure(
                config, parts, parts.flops(params), flags.FLAGS.draws
            )
            for name, lengths in kept.items() if not before else ():
                print(f"{name}: {lengths.shape[1]:,} examples; percentiles {PERCENT}")
                for what, values in zip(("text", "regions", "both"), [*lengths, lengths.sum(0)],
                                        strict=True):  # fmt: skip
                    print(f"  {what:8}", *(f"{x:.0f}" for x in np.percentile(values, PERCENT)))
                found = propose(lengths, config.model, config.streams[name], flags.FLAGS.propose)
                print(f'  proposed --config.streams.{name}.buckets="{tuple(map(tuple, found))}"')
            before = before or work
            print(f"{title}: padding {1 - real / slots:.1%}, operations {work / before:.1%}")
            for name, sizes in counts.items():
                print(f"  {name}:", ", ".join(f"{n} batches of {s}" for s, n in sizes.items()))


if __name__ == "__main__":
    app.run(
        main,
        flags_parser=functools.partial(
            command_line.parse, start=command_line.load, about=lambda: str(__doc__)
        ),
    )
