"""Speed of the train step alone, on made-up batches: no data, no TensorFlow.

  python benchmarks/train_step.py --batch=8                       # both models, base size
  python benchmarks/train_step.py --models=vlbert --sizes=base,large --dtype=bfloat16 --batch=256
  python benchmarks/train_step.py --batch=8 --peer                # and a PyTorch model beside it
  python benchmarks/train_step.py --batch=16 --regions=36 --models=vlbert --peer=official:VL-BERT

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
model operations (see training/run/throughput.py) over time · peak. The peak is the data sheet's for
bfloat16 on devices that throughput.py knows; elsewhere, CPUs among them, it is the best rate of a
square matrix product of the same type in the same run, which is in each row of JSON, too. Memory is
what the device reports as its peak; on a CPU the program's own arguments, outputs and temporaries
by XLA's `memory_analysis`, with the peak of the process's memory beside it.

`--peer` (pip install torch transformers) takes turns with a PyTorch model, see benchmarks/peer.py,
in the same process: ours, peer, ours, peer. `--peer=official:FOLDER` (pip install torch) does so
with the original's own code in FOLDER, a checkout of jackroos/VL-BERT or of
facebookresearch/vilbert-multi-task, see benchmarks/official.py. The peer is timed on rows padded as
ours are (full), and with each batch padded to its longest text and image (its "buckets"). Both
sides have all cores: XLA takes them by itself, PyTorch is told to.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer needs memory, too

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import step_figures
from benchmarks.ours import Ours, draw_lengths
from configs import models, vilbert_pretrain, vlbert_pretrain
from core import arguments
from core.errors import ConfigError
from input_pipeline.streams import limits
from objectives.model import DTYPES
from runtime import sharding
from training.run import throughput
from vl_models import layers

CONFIGS = {"vlbert": vlbert_pretrain, "vilbert": vilbert_pretrain}
BUCKETS = "24x17x26,24x22x32,24x28x38,24x33x43,24x37x48,28x37x56"
# The originals: {model: (repository, a file that tells its checkout)}.
OFFICIAL = {
    "vlbert": ("jackroos/VL-BERT", "pretrain/modules/resnet_vlbert_for_pretraining.py"),
    "vilbert": ("facebookresearch/vilbert-multi-task", "vilbert/vilbert.py"),
}
POOL = 4096  # examples whose lengths are drawn, at least


def make_config(args, model: str, size: str):
    """The pre-training config of a model at the sizes of the paper, whatever its width."""
    config = CONFIGS[model].get_config(f"size={size},data=jsonl")
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
    config.dtype, config.remat = args.dtype, args.remat
    config.optimizer.accumulate = args.accumulate
    config.mesh = dict(zip(sharding.AXES, args.mesh, strict=True))
    for name, block in config.streams.items():
        limits.check_options(name, block)
    return config


def check_devices(config) -> None:
    """Raises ConfigError where the mesh or the batch does not fit the devices."""
    mesh = sharding.make_mesh(config.mesh)
    multiple = sharding.batch_shards(mesh) * config.optimizer.accumulate
    flags = dict(captions="--batch", text="--text_batch")
    for name, block in config.streams.items():
        if block.batch_size % multiple:
            raise ConfigError(
                f"{flags[name]} must be a multiple of {multiple}, found {block.batch_size}"
            )


def widest(regions: str, block) -> int:
    """Regions of the image that has most, the whole image included, as far as the stream goes."""
    low, high = parse_regions(regions)
    del low
    return min(high + 1, block.max_regions)


def parse_regions(text: str) -> tuple[int, int]:
    """(fewest, most) regions of an image, of "36" or "10-36".

    Raises:
      ValueError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high:
        raise ValueError(f"--regions: {text!r} is neither a number nor LOW-HIGH")
    return low, high


def parse_buckets(text: str) -> tuple[tuple[int, int, int], ...]:
    """((T, R, most of both), ...) of "16x37,24x37x61"; the last number may be left out."""
    out = []
    for part in filter(None, text.split(",")):
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", part):
            raise ValueError(f"--buckets: {part!r} is neither TxR nor TxRxL")
        numbers = [int(n) for n in part.split("x")]
        out.append((*numbers[:2], numbers[2] if len(numbers) == 3 else sum(numbers)))
    return tuple(out)


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


def device_peak_bytes() -> int | None:
    """Peak of the first device's memory so far, where it tells."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def peer_of(text: str) -> tuple[str | None, pathlib.Path | None]:
    """What --peer names: (None, None) for transformers, or (model, folder) of an original's code.

    Raises:
      ArgumentTypeError: it is neither.
    """
    if text == "transformers":
        return None, None
    kind, _, name = text.partition(":")
    folder = pathlib.Path(name).expanduser()
    for model, (_, mark) in OFFICIAL.items():
        if kind == "official" and (folder / mark).is_file():
            return model, folder
    known = " or ".join(repository for repository, _ in OFFICIAL.values())
    raise argparse.ArgumentTypeError(
        f"expected transformers, or official:FOLDER with a checkout of {known}; found {text!r}"
    )


def make_peer(folder: pathlib.Path | None, *arguments):
    """The PyTorch side: that of `transformers`, or the original's of a folder."""
    if folder is None:
        from benchmarks.peer import Peer

        return Peer(*arguments)
    from benchmarks.official import Official

    return Official(folder, *arguments)


def measure(args, model: str, size: str) -> list[dict]:
    """Rows of figures for one model: ours, and the peer's where it is asked for."""
    config = make_config(args, model, size)
    count = max(POOL, 16 * args.batch)
    lengths = draw_lengths(np.random.default_rng(0), count, config.streams.captions, args.regions)
    sides = dict(ours=Ours(config, lengths))
    sides["ours"].warm_up()
    memory = dict(ours=(device_peak_bytes(), sides["ours"].program_bytes()))
    if args.peer:
        sides["peer"] = make_peer(args.peer[1], config, model, lengths, sides["ours"].host)
        sides["peer"].warm_up()
    for _ in range(args.rounds):
        for side in sides.values():
            side.take_turn(args.steps)
    if args.peer:
        memory["peer"] = (sides["peer"].peak_bytes(), None)
    device = jax.devices()[0]
    known = throughput.peak(jax.devices()) if args.dtype == "bfloat16" else None
    product = measured_peak(args.dtype, args.matmul)
    peak = known or product
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
        product_teraflops=product / 1e12,
        remat=args.remat,
        process_peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    )
    rows = []
    for name, side in sides.items():
        at_peak, program = memory[name]
        for kind, found in side.results().items():
            figures = step_figures.figures(
                found["seconds"],
                args.batch + args.text_batch,
                *(found[key] for key in ("real", "padded", "flops")),
                peak,
            )
            row = dict(
                side=name,
                kind=kind,
                shape=found["shape"],
                compile_seconds=found["compile_seconds"],
                parameters=side.parameters,
                loss=side.loss,
                device_peak_gb=at_peak and at_peak / 1e9,
                program_gb=program and program / 1e9,
            )
            rows.append(common | row | figures | (dict(peer=side.what) if name == "peer" else {}))
    return rows


def main(argv=None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models",
        type=arguments.some_of(list(CONFIGS)),
        help="of " + ", ".join(CONFIGS) + "; default: all, or the one that the peer is",
    )
    parser.add_argument(
        "--sizes",
        type=arguments.some_of(list(models.SIZES)),
        default="base",
        help="of " + ", ".join(models.SIZES),
    )
    parser.add_argument(
        "--batch", type=arguments.whole(1), default=8, help="captions in the global batch"
    )
    parser.add_argument(
        "--text_batch", type=arguments.whole(0), default=0, help="VL-BERT's plain rows beside"
    )
    parser.add_argument(
        "--steps", type=arguments.whole(1), default=2, help="of each kind in a round"
    )
    parser.add_argument("--rounds", type=arguments.whole(1), default=3)
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--regions", default="10-36", help="of an image: a number, or LOW-HIGH")
    parser.add_argument("--buckets", default=BUCKETS, help="TxR or TxRxL, ...; '': none")
    parser.add_argument("--remat", default="none", choices=sorted(layers.REMAT))
    parser.add_argument("--accumulate", type=arguments.whole(1), default=1)
    parser.add_argument(
        "--mesh", type=arguments.wholes(3), default="-1,1,1", help="devices along data,fsdp,tensor"
    )
    parser.add_argument(
        "--peer",
        type=peer_of,
        nargs="?",
        const="transformers",
        help="take turns with PyTorch: transformers, the default, or official:FOLDER",
    )
    parser.add_argument(
        "--matmul", type=arguments.whole(1), default=4096, help="size of the product for peaks"
    )
    parser.add_argument("--json", type=arguments.to_write, help="also write all rows to this file")
    args = parser.parse_args(argv)
    if args.peer:  # known in a moment; our side compiles for minutes before the peer begins
        model, folder = args.peer
        if model and args.models not in (None, [model]):
            parser.error(
                f"{folder} is a checkout of {OFFICIAL[model][0]}: expected --models={model}, "
                f"found {','.join(args.models)}"
            )
        if model and args.text_batch:
            parser.error("--text_batch: the original's rows of plain text are not run; leave it 0")
        args.models = args.models or (model and [model])
        packages = ("torch", "transformers") if folder is None else ("torch",)
        arguments.require_packages(parser, "--peer", *packages)
    args.models = args.models or list(CONFIGS)
    pairs = [(model, size) for size in args.sizes for model in args.models]
    for model, size in pairs:
        try:
            config = make_config(args, model, size)
            if len(pairs) == 1:  # the devices are for the processes of the others
                check_devices(config)
        except ValueError as error:
            parser.error(str(error))
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
    print(step_figures.table(rows) + "\n")
    for model, size in pairs:
        for line in step_figures.ratios(
            [row for row in rows if (row["model"], row["size"]) == (model, size)]
        ):
            print(line)
    for row in rows:
        print(json.dumps(row))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
