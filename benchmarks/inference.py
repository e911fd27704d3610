"""Latency and throughput of asking a model questions: made-up parameters and images, no data.

  python benchmarks/inference.py --models=vlbert,vilbert --size=base
  python benchmarks/inference.py --peer      # beside VisualBERT and LXMERT of transformers

Three ways answer the same questions, and take turns, so that what else the machine does meets all:

  api     model.answer(questions, images), an image as arrays: tokens, checks, layout, program
  loop    what one would write by hand: the jitted function of the model on batches that lie ready
          in the same shapes, and its numbers fetched; api - loop is what the API costs
  peer    transformers' model of the same sizes, on tensors that lie ready

Beside the time on the clock the table has the time of all the process's threads on CPUs, which what
else a shared machine does hardly changes (threads that wait for work by spinning count in it).
"""

import argparse
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import inference_peer
from checkpoints import run_config, sources
from configs import models, vqa
from core import arguments
from inference import checkpoint, questions
from inference.layout import Example
from inference.programs import LENGTHS, shortened
from inference.tasks import TaskModel
from input_pipeline.regions import FeatureSpec
from objectives.model import DTYPES
from vl_models import loading

VOCAB, ANSWERS = 30522, 3129
WORDS = 8  # of a question
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def made_up(name: str, size: str, features: int, sizes: list[int], dtype: str) -> TaskModel:
    """A model of questions with random parameters, its products in `dtype`."""
    config = ConfigDict(vqa.get_config(f"model={name},size={size},data=vqa"))
    config.dtype = dtype
    spec = FeatureSpec("made-up", features, dtype="float32")
    known = dict(
        place="made up",
        kind="run",
        names={},
        config=run_config.plain(config),
        pieces=[*PIECES, *(f"word{i}" for i in range(VOCAB - len(PIECES)))],
        answers=[f"answer {i}" for i in range(ANSWERS)],
        data_metadata=dict(feature_spec=spec.to_dict()),
    )
    opened = checkpoint.opened(sources.Source(arrays={}, **known))
    # The trunk and head of the config, by the shapes that their parameters would have.
    example = dict(
        text_ids=np.zeros((1, 1, 8), np.int32),
        text_mask=np.ones((1, 1, 8), bool),
        segment_ids=np.zeros((1, 1, 8), np.int32),
        regions=np.zeros((1, 1, 4, features), np.float32),
        boxes=np.ones((1, 1, 4, 4), np.float32),
        region_mask=np.ones((1, 1, 4), bool),
        image_size=np.ones((1, 1, 2), np.float32),
        num_detected=np.full((1, 1), 3, np.int32),
        answer_position=np.ones((1, 1), np.int32),
    )
    shapes = jax.eval_shape(opened.model.init, jax.random.key(0), {"examples": example})
    random = np.random.default_rng(0)
    arrays = {
        path: (0.02 * random.standard_normal(one.shape, np.float32) + path.endswith("scale"))
        for path, one in loading.flatten(shapes).items()
    }
    heads = opened.model.head_specs
    return TaskModel(sources.Source(arrays=arrays, heads=heads, **known), batch_sizes=sizes)


def asked(count: int, regions: int, features: int) -> tuple[list[str], list[dict]]:
    """Questions, and an image for each as arrays."""
    random = np.random.default_rng(1)
    texts, images = [], []
    for _ in range(count):
        texts.append(" ".join(f"word{i}" for i in random.integers(0, 20000, WORDS)))
        corner = random.uniform(0, 300, (regions, 2))
        images.append(
            dict(
                boxes=np.concatenate([corner, corner + 100], 1).astype(np.float32),
                features=random.standard_normal((regions, features), np.float32),
                size=(480, 640),
            )
        )
    return texts, images


def ways_of(model: TaskModel, texts: list[str], images: list[dict]) -> dict:
    """{way: a function that answers all}."""
    stream, program = model.program("answer")
    read = model.reader(stream).read
    examples = [
        Example(questions.question(text), (read(image),))
        for text, image in zip(texts, images, strict=True)
    ]
    batch = shortened(program.layout.batch(examples, len(texts)), LENGTHS)
    step = jax.jit(program.step)
    what = (texts[0], images[0]) if len(texts) == 1 else (texts, images)
    return dict(
        api=lambda: model.answer(*what),
        loop=lambda: jax.device_get(step(model.params, batch)),
    )


def measure(name: str, args: argparse.Namespace) -> list[dict]:
    """A row for each way and size of batch."""
    model = made_up(name, args.size, args.features, args.batches, args.dtype)
    rows = []
    for size in args.batches:
        texts, images = asked(size, args.regions, args.features)
        ways = ways_of(model, texts, images)
        if args.peer:
            block = model.config.model
            ways["peer"] = inference_peer.way(name, block, size, args, VOCAB, ANSWERS, WORDS + 2)
        times = {way: [] for way in ways}
        cpu = {way: [] for way in ways}
        for round_ in range(args.rounds + 2):  # the first ones compile and warm up
            for way, run in ways.items():
                begun, used = time.perf_counter(), time.process_time()
                run()
                if round_ > 1:
                    times[way].append(time.perf_counter() - begun)
                    cpu[way].append(time.process_time() - used)
        for way, found in times.items():
            p50, p95 = np.percentile(found, [50, 95])
            rows.append(
                dict(
                    model=name,
                    size=args.size,
                    way=way,
                    batch=size,
                    ms_p50=round(1e3 * p50, 2),
                    ms_p95=round(1e3 * p95, 2),
                    cpu_ms_p50=round(1e3 * float(np.median(cpu[way])), 2),
                    questions_per_second=round(size / p50, 2),
                )
            )
    return rows


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model | batch | way | p50, ms | p95, ms | CPU, ms | questions/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} {row['size']} | {row['batch']} | {row['way']} | {row['ms_p50']:,} | "
            f"{row['ms_p95']:,} | {row['cpu_ms_p50']:,} | {row['questions_per_second']:,} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = arguments.some_of(("vlbert", "vilbert"))
    parser.add_argument("--models", type=known, default=["vlbert", "vilbert"])
    parser.add_argument("--size", default="base", choices=list(models.SIZES))
    parser.add_argument("--batches", type=_sizes, default=[1, 8, 32], help="commas between")
    parser.add_argument("--regions", type=arguments.whole(1), default=36, help="of an image")
    parser.add_argument("--features", type=arguments.whole(1), default=2048)
    parser.add_argument("--rounds", type=arguments.whole(1), default=20)
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES), help="of ours")
    parser.add_argument("--peer", action="store_true", help="needs torch and transformers")
    parser.add_argument("--json", type=arguments.to_write, help="file for the rows")
    args = parser.parse_args(argv)
    if args.peer and inference_peer.missing():
        parser.error(f"--peer needs {' and '.join(inference_peer.missing())}: pip install them")
    rows = [row for name in args.models for row in measure(name, args)]
    print(f"{len(jax.devices())} x {jax.devices()[0].device_kind}, {args.regions} regions")
    print(table(rows))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


def _sizes(text: str) -> list[int]:
    return [arguments.whole(1)(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
