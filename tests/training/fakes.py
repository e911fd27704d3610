"""A small stand-in for MultiTaskModel, with its interface, parameter names and two streams."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import common

VOCAB, HIDDEN, WIDTH, TEXT = 24, 16, 32, 6


class FakeTask:
    """Guesses hidden words from the mean of the others; one attention-shaped layer."""

    dtype = jnp.float32
    separable = True

    def __init__(self, dropout: float = 0.0, text_head: str = "words"):
        self._dropout = dropout
        self._heads = dict(captions="words", text=text_head)
        self.loss_scale = {"captions/words": 1.0, "text/words": 0.5}
        self.warm_start, self.head_specs = {}, {}

    def initial_values(self, arrays, known):
        return {}

    def init(self, rng, batch):
        assert set(batch) == {"captions", "text"}
        keys = iter(jax.random.split(rng, 8))

        def matrix(rows, columns):
            return 0.3 * jax.random.normal(next(keys), (rows, columns))

        layer = {
            "attention": {
                "query": {"kernel": matrix(HIDDEN, HIDDEN), "bias": jnp.zeros(HIDDEN)},
                "output": {"kernel": matrix(HIDDEN, HIDDEN)},
            },
            "mlp": {
                "intermediate": {"kernel": matrix(HIDDEN, WIDTH), "bias": jnp.zeros(WIDTH)},
                "output": {"kernel": matrix(WIDTH, HIDDEN)},
            },
        }
        table = {"word": {"embedding": matrix(VOCAB, HIDDEN)}}
        return {
            "trunk": {"embeddings": table, "layer_0": layer},
            "heads": {
                name: {"kernel": matrix(HIDDEN, HIDDEN)}
                for name in dict.fromkeys(self._heads.values())
            },
        }

    def heads_of(self, stream):
        return {self._heads[stream]}

    def corrupt(self, stream, batch, keys):
        def draw(key):
            return jax.random.uniform(key, (1, TEXT)) < 0.4

        hidden = jax.vmap(draw)(keys) & batch["text_mask"]
        weight = hidden * batch["_weight"][:, None, None]
        ids = jnp.where(hidden, 0, batch["text_ids"])
        return dict(batch, targets=batch["text_ids"], text_ids=ids, weight=weight)

    def weights(self, stream, batch):
        return {f"{stream}/words": batch["weight"].sum()}

    def sums(self, params, stream, batch, *, train, dropout_rng=None):
        trunk = params["trunk"]
        table, layer = trunk["embeddings"]["word"]["embedding"], trunk["layer_0"]
        x = table[batch["text_ids"][:, 0]]
        if train and self._dropout:
            x *= jax.random.bernoulli(dropout_rng, 1 - self._dropout, x.shape)
        query = layer["attention"]["query"]
        states = jnp.tanh(x @ query["kernel"] + query["bias"]).mean(1, keepdims=True)
        x = x + states @ layer["attention"]["output"]["kernel"]
        inner = layer["mlp"]["intermediate"]
        x = x + jnp.tanh(x @ inner["kernel"] + inner["bias"]) @ layer["mlp"]["output"]["kernel"]
        logits = x @ params["heads"][self._heads[stream]]["kernel"] @ table.T
        targets, weight = batch["targets"][:, 0], batch["weight"][:, 0]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
        right = (jnp.argmax(logits, -1) == targets) * weight
        metrics = {
            f"{stream}/mlm_accuracy": (right.sum(), weight.sum()),
            f"{stream}/filled": (
                batch["text_mask"].sum().astype(jnp.float32),
                jnp.float32(batch["text_mask"].size),
            ),
        }
        return {f"{stream}/words": -(picked * weight).sum()}, metrics

    def total(self, sums, weights):
        return sum(
            self.loss_scale[name] * value / jnp.maximum(weights[name], 1e-9)
            for name, value in sums.items()
        )


def batch(stream: str, draw: int, size: int) -> dict:
    """A pure function of (stream, draw), like the real pipeline."""
    rng = np.random.default_rng([len(stream), draw])
    length = rng.integers(2, TEXT + 1, (size, 1, 1))
    weight = np.ones(size, np.float32)
    weight[-1] = draw % 2  # now and then a row that only pads the batch
    first = rng.integers(1, VOCAB // 2, (size, 1, 1))
    return dict(
        text_ids=(first + np.arange(TEXT, dtype=np.int32) % 3 * (VOCAB // 6)).astype(np.int32),
        text_mask=np.arange(TEXT) < length,
        example_index=(draw * size + np.arange(size)).astype(np.int32),
        _weight=weight,
    )


def config(**changes) -> ConfigDict:
    """A run's config with only what training reads."""
    made = ConfigDict(common.run_block() | dict(total_steps=12, log_every=2, eval_every=6))
    made.streams = dict(captions=dict(batch_size=16), text=dict(batch_size=16))
    made.optimizer = common.optimizer_block() | dict(lr=0.02, warmup_steps=3, clip_norm=1.0)
    made.evals, made.model = {}, dict(name="fake")
    made.checkpoint.every = 4
    made.unlock()
    made.update_from_flattened_dict(changes)
    return made.lock()


def batches(config, draw: int) -> dict:
    return {name: batch(name, draw, block.batch_size) for name, block in config.streams.items()}
