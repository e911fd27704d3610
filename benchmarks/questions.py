"""Questions of VQA's size: the host's work of an evaluation and of a report.

  python benchmarks/questions.py --questions=Q.json.gz --annotations=A.json.gz --rows=214354

Makes up val2014's two official files from real ones (each again under other ids), writes the
answer a model might give to each (one of the annotators', or another), and measures, each in a
process of its own: the evaluation of all answers by the official rule with its priors, the first
time and again, and the records of 24 cards of a report; "cold" makes the table of records, "warm"
has it. The model itself is not run. `--peer=FOLDER` has another checkout do the same.
"""

import argparse
import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from core import arguments

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Of a checkout with record tables, and of one before them.
MEASURED = """
import json, pathlib, resource, sys, time, types
from ml_collections import ConfigDict
from evaluation.evaluators import answers as evaluator
from evaluation.report import cards
from input_pipeline.datasets import vqa
folder = pathlib.Path(sys.argv[1])
found = json.loads((folder / "predictions.json").read_text())
rows = [{"id": name, "answer": answer} for name, answer in found.items()]
read = lambda: vqa.records(str(folder / "vqa"), "val2014")
try:
    from input_pipeline.datasets.records.table import RecordTable
    source = lambda: "the files"
    records = RecordTable(read, folder / sys.argv[2], "val2014", source)
except ImportError:
    records = read

def timed(what, run):
    wall, cpu = time.perf_counter(), time.process_time()
    value = run()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps([what, time.perf_counter() - wall, time.process_time() - cpu, most]))
    return value

made = evaluator.Evaluator.__new__(evaluator.Evaluator)
made._records, made._priors, made._kinds, made._truth = records, None, [], {}
if hasattr(evaluator.Evaluator, "end"):
    def run():
        made._found = found
        return made.end()
else:
    made._predictor = types.SimpleNamespace(run=lambda params: iter(rows))
    run = lambda: made.run(None)
first = timed("first evaluation", run)
assert timed("another evaluation", run) == first
stream = types.SimpleNamespace(records=records, record_kind="")
few = rows[:: len(rows) // 24][:24]
assert len(timed("records of 24 cards", lambda: cards.records_of(few, stream))) == 24
print(json.dumps(first))
"""


def _read(path: pathlib.Path, key: str) -> list[dict[str, Any]]:
    """The list at a key of a JSON file, or all that is in it."""
    with (gzip.open if path.suffix in (".gz", ".gzip") else open)(path, "rb") as file:
        value = json.load(file)
    return value[key] if isinstance(value, dict) else value


def write(folder: pathlib.Path, real: tuple[pathlib.Path, pathlib.Path], rows: int) -> None:
    """Writes the official files, and predictions."""
    asked, answered = _read(real[0], "questions"), _read(real[1], "annotations")
    by_id = {item["question_id"]: item for item in answered}
    questions, annotations, predictions = [], [], {}
    for i in range(rows):
        question = asked[i % len(asked)]
        answer = by_id[question["question_id"]]
        numbers = {"question_id": 1000 + i, "image_id": question["image_id"]}
        questions.append({**numbers, "question": question["question"]})
        keys = ("question_type", "answer_type", "multiple_choice_answer", "answers")
        annotations.append({**numbers, **{key: answer[key] for key in keys if key in answer}})
        given = answer["answers"][i % 10]["answer"]
        predictions[str(1000 + i)] = "yes" if i % 7 == 0 else given
    (folder / "vqa").mkdir(parents=True)
    for name, key, items in (
        ("v2_OpenEnded_mscoco_val2014_questions.json", "questions", questions),
        ("v2_mscoco_val2014_annotations.json", "annotations", annotations),
    ):
        (folder / "vqa" / name).write_text(json.dumps({key: items}))
    (folder / "predictions.json").write_text(json.dumps(predictions))


def measure(project: pathlib.Path, folder: pathlib.Path, tables: str) -> list[str]:
    """Lines of figures; tables are kept under a name, to be there the second time."""
    command = [sys.executable, "-c", MEASURED, str(folder), tables]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    *lines, metrics = map(json.loads, done.stdout.splitlines())
    made = [
        f"{what} {wall:.1f} s ({cpu:.1f} CPU s), at most {most:,.0f} MB"
        for what, wall, cpu, most in lines
    ]
    return [*made, f"accuracy {metrics['accuracy']:.4f}, of {len(metrics)} metrics"]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", required=True, type=pathlib.Path, help="real ones")
    parser.add_argument("--annotations", required=True, type=pathlib.Path, help="theirs")
    parser.add_argument("--rows", type=arguments.whole(24), default=214_354)
    parser.add_argument("--peer", help="folder of another checkout")
    args = parser.parse_args(argv)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="questions"))
    projects = {"ours": ROOT} | ({"peer": pathlib.Path(args.peer)} if args.peer else {})
    try:
        write(folder, (args.questions, args.annotations), args.rows)
        for name, project in projects.items():
            for state in ("cold", "warm") if name == "ours" else ("",):
                print(f"{name} {state}".strip() + ": " + "; ".join(measure(project, folder, name)))
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
