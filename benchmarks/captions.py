"""Conceptual Captions from official files to the first batch: seconds, CPU time and memory.

  python benchmarks/captions.py --captions=FILE.tsv --vocab=vocab.txt --rows=300000

Makes up a training file of `--rows` lines out of real captions (each with the end of another one,
so that texts differ), with urls of its own, a validation file of `--validation` lines, and a region
store (`store_index`) that lacks every twentieth image. Then, each in a process of its own, the data
of `configs/vlbert_pretrain.py` are opened and the first batch is read: cold, with everything to be
made, and warm, with the tables of before. Imports are not counted. `--run` also trains one step
with main.py, cold and warm, from the command to its end. `--peer=FOLDER` has another checkout of
the project do the same.
"""

import argparse
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import store_index
from core import arguments
from input_pipeline.regions.spec import FeatureSpec

SPEC = FeatureSpec(detector="made up", feature_dim=8, num_classes=4, background_class=0, top_k=2)
MISSING = 20  # of so many images one has no regions
CONFIG = "configs/vlbert_pretrain.py:size=mini,data=conceptual_captions"

OPENED = """
import json, resource, sys, time
from configs import vlbert_pretrain
from input_pipeline.streams import pipeline
from training.setup import assemblers
config = vlbert_pretrain.get_config(sys.argv[1].partition(":")[2])
config.data.update(json.loads(sys.argv[2]))
config.streams.text.batch_size = 0
wall, cpu = time.perf_counter(), time.process_time()
streams = pipeline.build_streams(config, assemblers(config), image_margin=1)
built = time.perf_counter() - wall
batch = streams["captions"].batch(0, (0, 1))
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps(dict(examples=streams["captions"].num_examples, opened_s=built,
    seconds=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, most_MB=most)))
"""


def captions(real: pathlib.Path, rows: int) -> Iterator[str]:
    """So many captions: the real ones, then the same with the last two words of others."""
    lines = real.read_text(encoding="utf-8").splitlines()
    words = [line.partition("\t")[0].split(" ") for line in lines]
    for i in range(rows):
        again, at = divmod(i, len(words))
        other = words[(7 * i + again) % len(words)]
        yield " ".join(words[at] if not again else [*words[at][:-2], *other[-2:]])


def write(folder: pathlib.Path, real: pathlib.Path, rows: int, validation: int) -> None:
    """Writes the official files and a region store of their images."""
    (folder / "cc").mkdir(parents=True)
    ids: dict[str, None] = {}
    for name, count in (
        ("Train_GCC-training", rows),
        ("Validation_GCC-1.1.0-Validation", validation),
    ):
        with open(folder / "cc" / f"{name}.tsv", "w", encoding="utf-8") as file:
            for i, text in enumerate(captions(real, count)):
                url = f"http://{name.partition('_')[0].lower()}.made.up/pictures/{i}.jpg"
                file.write(f"{text}\t{url}\n")
                if count == validation or i % MISSING:
                    ids[str(zlib.crc32(url.encode()))] = None
    store_index.write(folder / "store", [*ids], SPEC)


def _spent(command: Sequence[str], project: pathlib.Path) -> tuple[str, float, float]:
    """(standard output, seconds, CPU seconds) of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, wall, cpu


def opened(project: pathlib.Path, data: dict) -> str:
    """One line on opening the data in a process of its own."""
    out, _, _ = _spent([sys.executable, "-c", OPENED, CONFIG, json.dumps(data)], project)
    r = json.loads(out.splitlines()[-1])
    return (
        f"{r['examples']:,} captions, first batch after {r['seconds']:.1f} s "
        f"({r['cpu_s']:.1f} CPU s, streams built after {r['opened_s']:.1f} s), at most "
        f"{r['most_MB']:,.0f} MB"
    )


def trained(project: pathlib.Path, data: dict, workdir: pathlib.Path) -> str:
    """One line on a step of main.py."""
    options = [f"--config.data.{name}={value}" for name, value in data.items()]
    command = [sys.executable, "main.py", f"--config={CONFIG}", f"--workdir={workdir}", *options]
    command += ["--config.total_steps=1", "--config.optimizer.warmup_steps=1"]
    _, wall, cpu = _spent([*command, "--config.streams.text.batch_size=0"], project)
    return f"one step of main.py, from the command to its end: {wall:.1f} s ({cpu:.1f} CPU s)"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", required=True, type=pathlib.Path, help="TSV of real ones")
    parser.add_argument("--vocab", required=True, help="vocab.txt")
    parser.add_argument("--rows", type=arguments.whole(1), default=300_000)
    parser.add_argument("--validation", type=arguments.whole(1), default=1000)
    parser.add_argument("--run", action="store_true", help="train a step, too")
    parser.add_argument("--peer", help="folder of another checkout")
    args = parser.parse_args(argv)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="captions"))
    projects = {"ours": store_index.ROOT} | ({"peer": pathlib.Path(args.peer)} if args.peer else {})
    try:
        write(folder, args.captions, args.rows, args.validation)
        for name, project in projects.items():
            data = dict(
                manual_dir=str(folder / "cc"),
                regions=str(folder / "store"),
                vocab=str(pathlib.Path(args.vocab).resolve()),
                dir=str(folder / name),
                on_missing="skip",
            )
            for state in ("cold", "warm"):
                print(f"{name}, {state}: {opened(project, data)}", flush=True)
            if args.run:
                for state in ("cold", "warm"):
                    data["dir"] = str(folder / f"{name}_run")
                    line = trained(project, data, folder / f"{name}_{state}")
                    print(f"{name}, {state}: {line}", flush=True)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
