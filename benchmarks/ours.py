"""Our train step over made-up batches, timed in turns: for train_step.py."""

import time
import types

import jax
import ml_dtypes
import numpy as np

from input_pipeline.schema import SpecialIds
from input_pipeline.streams import limits
from objectives.model import MultiTaskModel
from runtime import sharding
from training import state, step
from training.run import throughput

VOCAB, FEATURES, CLASSES, TOP = 30522, 2048, 1601, 16  # BERT's, and Visual Genome's detector
SPECIAL = SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103, vocab_size=VOCAB)


def draw_lengths(rng, count: int, block, regions: str) -> tuple[np.ndarray, np.ndarray]:
    """(word pieces, regions), int64 [count] each, as they are after the stream's cuts."""
    spread = np.log1p((4.5 / 10.3) ** 2)
    words = rng.lognormal(np.log(10.3) - spread / 2, np.sqrt(spread), count)
    text = np.minimum(np.ceil(1.15 * words).astype(np.int64) + 2, block.max_text)
    low, _, high = regions.partition("-")
    found = rng.integers(int(low), int(high or low) + 1, count) + 1
    return limits.joint_lengths(text, np.minimum(found, block.max_regions), block.max_length)


def made_up_batch(rng, text, regions, size, texts: int = 1) -> dict:
    """A stream batch with the contract's keys.

    Args:
      rng: of numpy.
      text: int [B] word pieces.
      regions: int [B] regions, whole image included; None: plain text.
      size: (T, R, …) it is padded to.
      texts: K, texts of an example, alike in length.
    """
    b, t, r = len(text), size[0], size[1]
    mask = np.repeat((np.arange(t) < text[:, None])[:, None], texts, axis=1)
    ids = rng.integers(SPECIAL.mask + 1, VOCAB, (b, texts, t))
    out = dict(
        text_ids=np.where(mask, ids, SPECIAL.pad).astype(np.int32),
        text_mask=mask,
        segment_ids=np.zeros((b, texts, t), np.int32),
        word_starts=mask.copy(),
        example_index=np.arange(b, dtype=np.int32),
        _weight=np.ones(b, np.float32),
    )
    if regions is None:
        return out
    out["text_ids"][..., 0] = SPECIAL.cls
    out["text_ids"][np.arange(b), :, text - 1] = SPECIAL.sep
    real = (np.arange(r) < regions[:, None])[:, None]
    corner = rng.uniform(0, 300, (b, 1, r, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 200, (b, 1, r, 2))], -1)
    boxes[:, :, 0] = [0, 0, 599, 599]
    features = rng.standard_normal((b, 1, r, FEATURES), np.float32) * real[..., None]
    probs = -np.sort(-rng.uniform(0, 1 / TOP, (b, 1, r, TOP)), axis=-1).astype(np.float32)
    first = rng.integers(0, CLASSES, (b, 1, r, 1))
    return out | dict(
        regions=features.astype(ml_dtypes.bfloat16),
        boxes=(boxes * real[..., None]).astype(np.float32),
        region_mask=real,
        image_size=np.full((b, 1, 2), 600, np.float32),
        num_detected=(regions - 1).astype(np.int32)[:, None],
        region_class_ids=((first + np.arange(TOP)) % CLASSES).astype(np.int32),
        region_class_probs=probs,
        region_rest_prob=1 - probs.sum(-1),
        image_key=np.arange(b, dtype=np.int32)[:, None],
    )


class Ours:
    """The train step with its state, compiled for every size of the captions.

    Attributes:
      host: {stream: arrays} of a batch at the stream's own size.
      parameters: of the model.
      loss: of the last step.
    """

    def __init__(self, config, lengths, seed: int = 0):
        """lengths: (word pieces, regions) int [N] each, of the examples there are."""
        spec = types.SimpleNamespace(
            feature_dim=FEATURES, num_classes=CLASSES, global_feature="mean"
        )
        task = MultiTaskModel(config, SPECIAL, spec)
        self._sizes = limits.sizes(config.streams.captions)  # of the buckets, then the stream's own
        numbers = limits.smallest(self._sizes, *lengths)  # of each example
        hosts = _batches(np.random.default_rng(seed), config, lengths, self._sizes, numbers)
        self.host, self._tokens = hosts[-1], sum(lengths)
        self._share = {n: float(np.mean(numbers == n)) for n, host in enumerate(hosts) if host}
        self._seconds: dict[int, list[float]] = {n: [] for n in self._share}
        self._mesh, self._draw = sharding.make_mesh(config.mesh), 0
        with jax.set_mesh(self._mesh):
            maker = state.StateMaker(task, config, self.host, self._mesh)
            train_step = step.make_train_step(
                task,
                maker.optimizer,
                self._mesh,
                jax.tree.map(lambda x: x.sharding, maker.state),
                seed=0,
                accumulate=config.optimizer.accumulate,
                reduce_dtype=config.reduce_dtype,
            )
            self._state = maker.fresh()
            self._batches, self._programs, self._compile_seconds = {}, {}, {}
            for n in self._share:
                self._batches[n] = sharding.place(hosts[n], self._mesh)
                asked = time.perf_counter()
                lowered = train_step.lower(self._state, self._batches[n], self._draws())
                self._programs[n] = lowered.compile()
                self._compile_seconds[n] = time.perf_counter() - asked
        flops = throughput.of_model(config, task)(maker.params)
        self._flops = {n: flops(hosts[n]) for n in self._share}
        self._padded = {n: _positions(config, hosts[n], self._sizes[n]) for n in self._share}
        self.parameters = sum(x.size for x in jax.tree.leaves(maker.params))

    def _draws(self) -> dict:
        return dict.fromkeys(self.host, np.int32(self._draw))

    def _step(self, number: int) -> float:
        """Seconds of one step on the batch of that size."""
        self._draw += 1
        asked = time.perf_counter()
        with jax.set_mesh(self._mesh):
            self._state, out = self._programs[number](
                self._state, self._batches[number], self._draws()
            )
        jax.block_until_ready((self._state, out))
        seconds = time.perf_counter() - asked
        self.loss = float(out["pairs"]["loss"][0])
        return seconds

    def warm_up(self) -> None:
        """Runs every program once: the first run also sets up buffers."""
        for number in self._programs:
            self._step(number)

    def take_turn(self, steps: int) -> None:
        """Times `steps` steps at each size."""
        for number, seconds in self._seconds.items():
            seconds += [self._step(number) for _ in range(steps)]

    def results(self) -> dict[str, dict]:
        """{kind: shape, seconds of each step, compile_seconds; of a step real, padded, flops}."""
        last = len(self._sizes) - 1
        captions = self.host["captions"]
        rows = len(captions["text_mask"])
        plain = int(self.host["text"]["text_mask"].sum()) if "text" in self.host else 0
        # Of ViLBERT's two texts the trunk reads one.
        real = int(captions["region_mask"].sum() + captions["text_mask"][:, 0].sum())
        kinds = dict(
            full=dict(
                shape=self._shape(last),
                seconds=self._seconds[last],
                compile_seconds=self._compile_seconds[last],
                real=real + plain,
                padded=self._padded[last],
                flops=self._flops[last],
            )
        )
        if last:
            # The n-th time of every bucket makes the n-th time of their mixture.
            seconds = {n: np.array(times) for n, times in self._seconds.items()}
            kinds["buckets"] = dict(
                shape=" ".join(f"{self._shape(n)}:{part:.0%}" for n, part in self._share.items()),
                seconds=self._mixed(seconds),
                compile_seconds=sum(self._compile_seconds.values()),
                real=rows * float(self._tokens.mean()) + plain,
                padded=self._mixed(self._padded),
                flops=self._mixed(self._flops),
            )
        return kinds

    def _shape(self, number: int) -> str:
        return "x".join(map(str, self._sizes[number]))

    def _mixed(self, values):
        """{size's number: value} → their sum, each by the share of examples of its size."""
        return sum(part * values[n] for n, part in self._share.items())

    def text(self) -> str:
        """The full size's compiled program."""
        return self._programs[len(self._sizes) - 1].as_text()

    def program_bytes(self) -> int:
        """What the full size's program needs on a device: arguments, outputs, temporaries."""
        found = self._programs[len(self._sizes) - 1].memory_analysis()
        return (
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            + found.temp_size_in_bytes
            - found.alias_size_in_bytes
        )


def _batches(rng, config, lengths, sizes, numbers) -> list[dict | None]:
    """A batch {stream: arrays} of each size; None where no example has it."""
    count, plain = config.streams.captions.batch_size, {}
    text = config.streams.get("text")
    if text and text.batch_size:  # rows without an image go on until they are full
        full = np.full(text.batch_size, text.max_text)
        plain["text"] = made_up_batch(rng, full, None, (text.max_text, 0))
    hosts: list[dict | None] = []
    for number, size in enumerate(sizes):
        # The full size takes examples as they come; a bucket those that it is meant for.
        whole = number == len(sizes) - 1
        chosen = np.arange(len(numbers)) if whole else np.flatnonzero(numbers == number)
        if not len(chosen):
            hosts.append(None)
            continue
        chosen = np.resize(chosen, count)
        texts = 2 if config.streams.captions.negatives else 1
        captions = made_up_batch(rng, *(x[chosen] for x in lengths), size, texts)
        hosts.append(dict(captions=captions, **plain))
    return hosts


def _positions(config, host, size) -> int:
    """Positions that a step computes on, padding included."""
    total = 0
    for name, arrays in host.items():
        padded_to = size if name == "captions" else None
        row = throughput.row_length(config.model, config.streams[name], padded_to)
        total += len(arrays["text_ids"]) * row
    return total
