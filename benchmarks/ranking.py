"""Speed of ranking on made-up texts and images: no data, no TensorFlow.

  python benchmarks/ranking.py --model=vilbert --size=mini

Scores the same texts with the same images in two ways and prints pairs/s of both: in a grid, as
evaluation/evaluators/ranking.py does, where what lies below the first meeting of text and image
runs once per text and once per image; and pair by pair, each with its own copy of its text and
image. The ways take turns, and the largest difference of their scores is printed.
"""

import argparse
import functools
import json
import pathlib
import sys
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import models, retrieval
from core import arguments
from evaluation.evaluators import ranking
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from runtime import sharding
from training import state

VOCAB = 30522


def made_up(block, texts: int, images: int, features: int):
    """({key: [N, T]}, {key: [M, R, …]}), every text and region real."""
    rng = np.random.default_rng(0)
    t, r = block.max_text, block.max_regions
    corner = rng.uniform(0, 300, (images, r, 2))
    return dict(
        text_ids=rng.integers(1000, VOCAB, (texts, t)).astype(np.int32),
        text_mask=np.ones((texts, t), bool),
        segment_ids=np.zeros((texts, t), np.int32),
    ), dict(
        regions=rng.standard_normal((images, r, features), np.float32),
        boxes=np.concatenate([corner, corner + 100], -1).astype(np.float32),
        region_mask=np.ones((images, r), bool),
        image_size=np.full((images, 2), 600, np.float32),
    )


def pair_by_pair(evaluator, params, texts, images, *, shards: int):
    """[B, M] as the evaluator scores them, but with a text and an image of its own a pair."""
    count, width = len(texts["text_ids"]), len(images["regions"])
    split = functools.partial(jax.lax.with_sharding_constraint, shardings=sharding.BATCH)
    batch = {key: split(jnp.repeat(x, width, 0)[:, None]) for key, x in texts.items()}
    for key, x in images.items():
        batch[key] = split(jnp.tile(x, (count, *[1] * (x.ndim - 1)))[:, None])
    model, block = evaluator._model, evaluator._block
    outputs = model.outputs(params, block.stream, batch, pairs=((0, 0),))
    logits = model.head(params, evaluator._head_name)(outputs["pooled"])
    return logits[:, 0].reshape(count, width)


def measure(config, features: int, rounds: int) -> dict:
    """Times a step of both ways, in turns."""
    special = SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103, vocab_size=VOCAB)
    spec = types.SimpleNamespace(feature_dim=features, num_classes=0, global_feature="mean")
    task, block = MultiTaskModel(config, special, spec), config.evals.ranking
    options = config.streams[block.stream]
    texts, images = made_up(options, block.batch_size, block.images, features)
    mesh = sharding.make_mesh(config.mesh)
    place = functools.partial(sharding.place, mesh=mesh)
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    with jax.set_mesh(mesh):
        example = {k: np.stack([x[:3]] * 2) for k, x in texts.items()}
        example |= {k: np.stack([x[:2]] * 2) for k, x in images.items()}
        example["_weight"] = np.ones(2, np.float32)
        params = state.StateMaker(task, config, {block.stream: example}, mesh).fresh().params
        evaluator = ranking.Evaluator(block, task, None, place, 0)
        slow = functools.partial(pair_by_pair, evaluator)
        ways = {
            "grid": evaluator._step,
            "pair_by_pair": jax.jit(slow, static_argnames="shards"),
        }
        texts = place(texts)
        images = jax.device_put(images, sharding.replicated(mesh))
        scores, times = {}, {name: [] for name in ways}
        for round_ in range(rounds + 1):  # the first one compiles
            for name, way in ways.items():
                asked = time.perf_counter()
                scores[name] = np.asarray(way(params, texts, images, shards=shards))
                if round_:
                    times[name].append(time.perf_counter() - asked)
    pairs = block.batch_size * block.images
    rates = {name: pairs / float(np.median(values)) for name, values in times.items()}
    return dict(
        device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        model=config.model.name,
        dtype=config.dtype,
        texts=block.batch_size,
        images=block.images,
        lengths=[options.max_text, options.max_regions],
        pairs_per_second={name: round(rate, 1) for name, rate in rates.items()},
        ratio=round(rates["grid"] / rates["pair_by_pair"], 2),
        largest_difference=float(np.abs(scores["grid"] - scores["pair_by_pair"]).max()),
    )


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="vilbert", choices=("vilbert", "vlbert"))
    parser.add_argument("--size", default="mini", choices=list(models.SIZES))
    parser.add_argument("--texts", type=arguments.whole(1), default=16, help="a step")
    parser.add_argument("--images", type=arguments.whole(1), default=32, help="a step")
    parser.add_argument("--text", type=arguments.whole(3), default=30, help="tokens of a text")
    parser.add_argument("--regions", type=arguments.whole(2), default=37, help="of an image")
    parser.add_argument("--features", type=arguments.whole(1), default=2048)
    parser.add_argument("--dtype", default="", choices=("", "float32", "bfloat16"))
    parser.add_argument("--rounds", type=arguments.whole(1), default=5)
    parser.add_argument("--json", type=arguments.to_write, help="write it to a file, too, as a row")
    args = parser.parse_args()
    config = ConfigDict(retrieval.get_config(f"model={args.model},size={args.size}"))
    config.dtype = args.dtype or config.dtype
    config.optimizer.warmup_steps = 0
    stream = config.streams[config.evals.ranking.stream]
    stream.update(max_text=args.text, max_regions=args.regions)
    stream.max_length = args.text + args.regions
    config.evals.ranking.update(batch_size=args.texts, images=args.images)
    found = measure(config, args.features, args.rounds)
    print(json.dumps(found, indent=2))
    if args.json:
        args.json.write_text(json.dumps([found], indent=2) + "\n")


if __name__ == "__main__":
    main()
