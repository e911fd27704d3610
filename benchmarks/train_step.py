"""Speed of the train step alone, on made-up batches: no data, no TensorFlow.

  python benchmarks/train_step.py --batch=8                       # both models, base size
  python benchmarks/train_step.py --models=vlbert --sizes=base,large --dtype=bfloat16 --batch=256
  python benchmarks/train_step.py --batch=8 --peer                # and a PyTorch model beside it

The step is the one that training runs: corruption, dropout, both streams' losses with gathered
masked positions, gradients and AdamW. Printed are a Markdown table and a line of JSON a row. Each
model and size is measured in a process of its own, so that peaks of memory do not mix.

Lengths: captions have words as those of Conceptual Captions have (mean 10.3, standard deviation
4.5; drawn from a log-normal), 1.15 word pieces a word, [CLS] and [SEP]; images have `--regions`,
evenly drawn from "10-36" as in the papers, or "36", and the whole image as one more. Rows of two
kinds are timed:

  full      all batches padded to the stream's own size
  buckets   batches of examples alike in size, padded to `--buckets` "TxR" or "TxRxL" (text,
            regions, both together) or, where they do not fit, to the stream's own; each bucket
            counts by its share of examples

Tokens are word pieces and regions; "real" leaves the padding out ([END] counts as padding). MFU is
model operations (see training/throughput.py) over time · peak. The peak is the data sheet's for
bfloat16 on devices that throughput.py knows; elsewhere, CPUs among them, it is the best rate of a
square matrix product of the same type in the same run. Memory is what the device reports as its
peak; on a CPU the program's own arguments, outputs and temporaries by XLA's `memory_analysis`, with
the peak of the process's memory beside it.

`--peer` (pip install torch transformers) takes turns with a PyTorch model, see benchmarks/peer.py,
in the same process: ours, peer, ours, peer. It is timed on rows padded as ours are (full), and with
each batch padded to its longest text and image (its "buckets"). Both sides have all cores: XLA
takes them by itself, PyTorch is told to.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer needs memory, too

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from configs import models, vilbert_pretrain, vlbert_pretrain
from input_pipeline import limits
from input_pipeline.schema import SpecialIds
from training import sharding, state, step, throughput
from training.multitask import DTYPES, MultiTask

VOCAB, FEATURES, CLASSES, TOP = 30522, 2048, 1601, 16  # BERT's, and Visual Genome's detector
SPECIAL = SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103, vocab_size=VOCAB)
CONFIGS = {"vlbert": vlbert_pretrain, "vilbert": vilbert_pretrain}
BUCKETS = "24x17x26,24x22x32,24x28x38,24x33x43,24x37x48,28x37x56"
POOL = 4096  # examples whose lengths are drawn, at least


def make_config(args, model: str, size: str):
    """The pre-training config of a model at the sizes of the paper, whatever its width."""
    config = CONFIGS[model].get_config(f"size={size}")
    rows = CONFIGS[model].get_config("size=base").streams.captions
    names = "max_text", "max_regions", "max_length"
    config.streams.captions.update({name: rows[name] for name in names})
    config.streams.captions.max_regions = widest(args.regions, rows)
    config.streams.captions.batch_size = args.batch
    config.streams.captions.buckets = parse_buckets(args.buckets)
    if "text" in config.streams:
        config.streams.text.batch_size = args.text_batch
    elif args.text_batch:
        raise ValueError(f"--text_batch: {model} has no stream of plain text")
    config.model.dropout = 0.1  # of the narrow sizes, too
    config.dtype = args.dtype
    config.optimizer.accumulate = args.accumulate
    config.mesh = dict(zip(sharding.AXES, map(int, args.mesh.split(",")), strict=True))
    for name, block in config.streams.items():
        limits.check_options(name, block)
    return config


def widest(regions: str, block) -> int:
    """Regions of the image that has most, the whole image included, as far as the stream goes."""
    return min(int(regions.rpartition("-")[2]) + 1, block.max_regions)


def parse_buckets(text: str) -> tuple[tuple[int, int, int], ...]:
    """((T, R, most of both), ...) of "16x37,24x37x61"; the last number may be left out."""
    out = []
    for part in filter(None, text.split(",")):
        numbers = [int(n) for n in part.split("x")]
        if len(numbers) not in (2, 3):
            raise ValueError(f"--buckets: {part!r} is neither TxR nor TxRxL")
        out.append((*numbers[:2], numbers[2] if len(numbers) == 3 else sum(numbers)))
    return tuple(out)


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


def measured_peak(dtype: str, size: int) -> float:
    """Operations a second of the best of ten square matrix products on all devices' first."""
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), DTYPES[dtype]) for key in keys)
    # As in the model, float32 is what the backend makes of it by default.
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, b))
    times = []
    for _ in range(10):
        asked = time.perf_counter()
        jax.block_until_ready(product(a, b))
        times.append(time.perf_counter() - asked)
    return 2 * size**3 / min(times) * len(jax.devices())


class Ours:
    """The train step with its state, compiled for every size of the captions.

    Attributes:
      sizes: (T, R, both) of the buckets and, last, of the stream itself.
      compile_seconds: of each program.
      flops: model operations of a step of each.
    """

    def __init__(self, config, lengths, seed: int = 0):
        """lengths: (word pieces, regions) int [N] each, of the examples there are."""
        rng = np.random.default_rng(seed)
        spec = types.SimpleNamespace(
            feature_dim=FEATURES, num_classes=CLASSES, global_feature="mean"
        )
        task = MultiTask(config, SPECIAL, spec)
        blocks = {name: block for name, block in config.streams.items() if block.batch_size}
        captions = blocks["captions"]
        self.sizes = limits.sizes(captions)
        self.number = limits.smallest(self.sizes, *lengths)  # of each example
        plain = {}
        if "text" in blocks:  # rows without an image go on until they are full
            full = np.full(blocks["text"].batch_size, blocks["text"].max_text)
            plain["text"] = made_up_batch(rng, full, None, (blocks["text"].max_text, 0))
        self.plain_rows = sum(len(arrays["text_ids"]) for arrays in plain.values())
        self.plain_tokens = sum(int(arrays["text_mask"].sum()) for arrays in plain.values())
        full_plain = throughput.row_length(config.model, blocks["text"]) if plain else 0
        # What a step computes on, and what of that is real, by size.
        self.padded = [
            captions.batch_size * throughput.row_length(config.model, captions, size)
            + self.plain_rows * full_plain
            for size in self.sizes
        ]
        self._mesh = sharding.make_mesh(config.mesh)
        self.hosts = []
        last = len(self.sizes) - 1
        for number, size in enumerate(self.sizes):
            # The full size takes examples as they come; a bucket those that it is meant for.
            chosen = np.flatnonzero((self.number == number) | (number == last))
            if not len(chosen):
                self.hosts.append(None)
                continue
            chosen = np.resize(chosen, captions.batch_size)
            texts = 2 if captions.negatives else 1
            text, regions = (x[chosen] for x in lengths)
            self.hosts.append(
                dict(captions=made_up_batch(rng, text, regions, size, texts), **plain)
            )
        with jax.set_mesh(self._mesh):
            maker = state.StateMaker(task, config, self.hosts[-1], self._mesh)
            shardings = jax.tree.map(lambda x: x.sharding, maker.state)
            train_step = step.make_train_step(
                task,
                maker.optimizer,
                self._mesh,
                shardings,
                seed=0,
                accumulate=config.optimizer.accumulate,
            )
            self._state, self._draw = maker.fresh(), 0
            self._batches = [h and sharding.place(h, self._mesh) for h in self.hosts]
            self._programs, self.compile_seconds = [], []
            for batch in self._batches:
                asked = time.perf_counter()
                program = batch and train_step.lower(self._state, batch, self._draws(0)).compile()
                self._programs.append(program)
                self.compile_seconds.append(time.perf_counter() - asked)
        heads = {
            name: sorted({objective.head_name for objective in task.streams[name]})
            for name in blocks
        }
        pairs = {name: len(found) for name, found in task.pairs.items()}
        flops = throughput.flops_of(config, maker.params, heads, pairs)
        self.flops = [host and flops(host) for host in self.hosts]
        self.parameters = sum(x.size for x in jax.tree.leaves(maker.params))

    def _draws(self, draw: int) -> dict:
        return dict.fromkeys(self.hosts[-1], np.int32(draw))

    def used(self) -> list[int]:
        """Numbers of the sizes that have examples, the full size always among them."""
        return [number for number, program in enumerate(self._programs) if program]

    def run(self, number: int) -> float:
        """Seconds of one step on a batch of that size."""
        self._draw += 1
        asked = time.perf_counter()
        with jax.set_mesh(self._mesh):
            self._state, out = self._programs[number](
                self._state, self._batches[number], self._draws(self._draw)
            )
        jax.block_until_ready((self._state, out))
        seconds = time.perf_counter() - asked
        self.loss = float(out["pairs"]["loss"][0])
        return seconds

    def program_bytes(self) -> int:
        """What the full size's program needs on a device: arguments, outputs, temporaries."""
        found = self._programs[-1].memory_analysis()
        return (
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            + found.temp_size_in_bytes
            - found.alias_size_in_bytes
        )


def device_peak_bytes() -> int | None:
    """Peak of the first device's memory so far, where it tells."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def figures(seconds, examples: float, real: float, padded: float, flops: float, peak: float):
    """What a list of step times says.

    Args:
      seconds: of each step (of buckets: one step of each, weighted by their shares).
      examples, real, padded, flops: of a step: rows, tokens, tokens with padding, operations.
      peak: operations a second.
    """
    median = float(np.median(seconds))
    return dict(
        step_ms_p50=1e3 * median,
        step_ms_p95=1e3 * float(np.percentile(seconds, 95)),
        examples_per_second=examples / median,
        real_tokens_per_second=real / median,
        padded_tokens_per_second=padded / median,
        teraflops_per_step=flops / 1e12,
        teraflops_per_second=flops / median / 1e12,
        mfu=flops / median / peak,
    )


def measure(args, model: str, size: str) -> list[dict]:
    """Rows of figures for one model: ours, and the peer's where it is asked for."""
    config = make_config(args, model, size)
    lengths = draw_lengths(
        np.random.default_rng(0), max(POOL, 16 * args.batch), config.streams.captions, args.regions
    )
    ours = Ours(config, lengths)
    last = len(ours.sizes) - 1
    ours_times: dict[int, list[float]] = {number: [] for number in ours.used()}
    for number in ours_times:
        ours.run(number)  # the first run of a program also sets up buffers
    memory = dict(
        device_peak_gb=(device_peak_bytes() or 0) / 1e9 or None,
        program_gb=ours.program_bytes() / 1e9,
    )
    other = None
    if args.peer:
        from benchmarks import peer

        other = peer.Peer(config, model, lengths, ours.hosts[-1])
        other.warm_up()
    for _ in range(args.rounds):
        for number, times in ours_times.items():
            times += [ours.run(number) for _ in range(args.steps)]
        if other:
            other.take_turn(args.steps)
    device = jax.devices()[0]
    known = throughput.peak(jax.devices()) if args.dtype == "bfloat16" else None
    peak = known or measured_peak(args.dtype, args.matmul)
    common = dict(
        model=model,
        size=size,
        dtype=args.dtype,
        batch=args.batch,
        text_rows=args.text_batch,
        regions=args.regions,
        device=f"{len(jax.devices())} x {device.device_kind}",
        cores=os.cpu_count(),
        peak_teraflops=peak / 1e12,
        peak_from="data sheet" if known else f"{args.matmul}² matrix product in this run",
    )
    rows = args.batch + ours.plain_rows
    tokens = sum(lengths)  # [N], of each example
    captions = ours.hosts[last]["captions"]
    # Of ViLBERT's two texts the trunk reads one.
    real = int(captions["region_mask"].sum() + captions["text_mask"][:, 0].sum())
    real += ours.plain_tokens
    out = [
        dict(
            side="ours",
            kind="full",
            shape="x".join(map(str, ours.sizes[last])),
            **figures(ours_times[last], rows, real, ours.padded[last], ours.flops[last], peak),
            compile_seconds=ours.compile_seconds[last],
            parameters=ours.parameters,
            loss=ours.loss,
            **memory,
        )
    ]
    if last:
        share = np.array([np.mean(ours.number == number) for number in ours.used()])
        used = ours.used()

        def weigh(values):
            return sum(s * values[number] for s, number in zip(share, used, strict=True))

        out.append(
            dict(
                side="ours",
                kind="buckets",
                shape=" ".join(
                    "x".join(map(str, ours.sizes[n])) + f":{s:.0%}"
                    for s, n in zip(share, used, strict=True)
                ),
                # The n-th time of every bucket makes the n-th time of their mixture.
                **figures(
                    weigh({n: np.array(times) for n, times in ours_times.items()}),
                    rows,
                    args.batch * float(tokens.mean()) + ours.plain_tokens,
                    weigh(ours.padded),
                    weigh({n: ours.flops[n] for n in used}),
                    peak,
                ),
                compile_seconds=sum(ours.compile_seconds),
                parameters=ours.parameters,
                loss=ours.loss,
                **memory,
            )
        )
    if other:
        for kind, found in other.results().items():
            out.append(
                dict(
                    side="peer",
                    kind=kind,
                    shape=found["shape"],
                    **figures(
                        found["seconds"],
                        rows,
                        found["real"],
                        found["padded"],
                        found["flops"],
                        peak,
                    ),
                    compile_seconds=other.compile_seconds,
                    parameters=other.parameters,
                    loss=other.loss,
                    device_peak_gb=other.peak_gb(),
                    program_gb=None,
                    peer=other.what,
                )
            )
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return [common | row | dict(process_peak_gb=process) for row in out]


def ratios(rows: list[dict]) -> list[str]:
    """Lines that compare ours with the peer, of the rows of one model and size."""
    found = {(row["side"], row["kind"]): row for row in rows}
    name = f"{rows[0]['model']} {rows[0]['size']}"
    lines = []
    if ("peer", "full") in found:
        ours, peer = found["ours", "full"], found["peer", "full"]
        for what, key in (
            ("examples/s at the same padded rows", "examples_per_second"),
            ("operations/s at the same padded rows", "teraflops_per_second"),
        ):
            lines.append(f"{name}: {ours[key] / peer[key]:.2f} × the peer in {what}")
        kind = "buckets" if ("ours", "buckets") in found else "full"
        key = "real_tokens_per_second"
        ratio = found["ours", kind][key] / found["peer", "buckets"][key]
        lines.append(
            f"{name}: {ratio:.2f} × the peer in real tokens/s: our {kind}, the peer's batches "
            "padded to their longest"
        )
    return lines


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    head = (
        "model", "rows", "examples/s", "tokens/s real", "padded", "step ms p50", "p95",
        "compile s", "memory GB", "TFLOP/s", "MFU",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row in rows:
        memory = row["device_peak_gb"] or row["program_gb"]
        padding = 1 - row["real_tokens_per_second"] / row["padded_tokens_per_second"]
        cells = (
            f"{row['model']} {row['size']}, {row['side']}",
            f"{row['kind']}, {padding:.0%} padding",
            f"{row['examples_per_second']:,.1f}",
            f"{row['real_tokens_per_second']:,.0f}",
            f"{row['padded_tokens_per_second']:,.0f}",
            f"{row['step_ms_p50']:,.1f}",
            f"{row['step_ms_p95']:,.1f}",
            f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else "",
            f"{memory:.2f}" if memory else "",
            f"{row['teraflops_per_second']:.3g}",
            f"{row['mfu']:.1%}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv=None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="vlbert,vilbert", help="of " + ", ".join(CONFIGS))
    parser.add_argument("--sizes", default="base", help="of " + ", ".join(models.SIZES))
    parser.add_argument("--batch", type=int, default=8, help="captions in the global batch")
    parser.add_argument("--text_batch", type=int, default=0, help="VL-BERT's plain rows beside")
    parser.add_argument("--steps", type=int, default=2, help="of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--regions", default="10-36", help="of an image: a number, or LOW-HIGH")
    parser.add_argument("--buckets", default=BUCKETS, help="TxR or TxRxL, ...; '': none")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--mesh", default="-1,1,1", help="devices along data,fsdp,tensor")
    parser.add_argument("--peer", action="store_true", help="take turns with PyTorch")
    parser.add_argument("--matmul", type=int, default=4096, help="size of the product for peaks")
    parser.add_argument("--json", help="also write all rows to this file")
    args = parser.parse_args(argv)
    pairs = [(model, size) for size in args.sizes.split(",") for model in args.models.split(",")]
    for model, size in pairs:
        if model not in CONFIGS or size not in models.SIZES:
            parser.error(f"no model {model!r} of size {size!r}")
    rows = []
    if len(pairs) == 1:
        rows = measure(args, *pairs[0])
    else:
        given = sys.argv[1:] if argv is None else list(argv)
        for model, size in pairs:
            command = [sys.executable, __file__, *given, "--models", model, "--sizes", size]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"{model} {size} failed, see above")
            rows += [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    first = rows[0]
    print(
        f"\n{first['device']}, {first['cores']} cores, {first['dtype']}, batch {first['batch']} "
        f"captions + {first['text_rows']} plain rows, {first['regions']} regions; peak "
        f"{first['peak_teraflops']:.3g} TFLOP/s ({first['peak_from']})\n"
    )
    print(table(rows) + "\n")
    for model, size in pairs:
        for line in ratios([row for row in rows if (row["model"], row["size"]) == (model, size)]):
            print(line)
    for row in rows:
        print(json.dumps(row))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
