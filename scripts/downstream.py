"""Fine-tunes every task on the embedded data, from scratch and from a pre-trained run: a table.

  python scripts/downstream.py --pretrained=runs --out=runs/downstream
  python scripts/downstream.py --tasks=vqa,retrieval --models=vlbert --seeds=1

`--pretrained` holds vlbert_pretrain and vilbert_pretrain, as `make pretrain` writes them. Both
starts have the same recipe, examples and steps. The best checkpoint by the validation images is
evaluated on the test images. A run that is done is not run again, and one that was interrupted
goes on; OUT/table.md is written anew after each.

Each task trains on as many examples as there are, or on `--examples` of them.
"""

import argparse
import collections
import dataclasses
import importlib
import itertools
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


import numpy as np

from checkpoints import checkpoint
from core import arguments, remote
from input_pipeline import datasets
from training import loop

MODELS = ("vlbert", "vilbert")
STARTS = ("scratch", "pre-trained")
IMAGES = 50  # that retrieval ranks
NAMES = {"vlbert": "VL-BERT", "vilbert": "ViLBERT"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a task is trained here.

    Attributes:
      title: of its row.
      config: module of configs, and its arguments.
      metric: of the evaluations; a share.
      seeds: runs of each kind.
      steps: of training.
      arguments: of the config, beside the model.
      changes: {field: value} of the config.
    """

    title: str
    config: str
    metric: str
    seeds: int
    steps: int
    arguments: str = ""
    changes: dict = dataclasses.field(default_factory=dict)


_FAST = {"optimizer.lr": 2e-3}  # what a short run needs to get away from guessing
_CHOICE = _FAST | {"objectives.choice.loss": "softmax"}
TASKS = {
    "vcr": Recipe("VCR, Q→A", "vcr", "validation/choice_accuracy", 3, 600, changes=_CHOICE),
    "retrieval": Recipe(
        "Image retrieval, R@1 of 50", "retrieval", "ranking/image_retrieval_r1", 3, 400
    ),
    "refcoco": Recipe("Referring expressions", "refcoco", "validation/grounding_accuracy", 3, 300),
    "rationales": Recipe(
        "VCR, QA→R", "vcr", "validation/choice_accuracy", 1, 600, "task=rationales", _CHOICE
    ),
    "nlvr2": Recipe("NLVR2", "nlvr2", "validation/classification_accuracy", 1, 400, changes=_FAST),
    "vqa": Recipe("VQA, official accuracy", "vqa", "official/accuracy", 3, 1500, changes=_FAST),
}


def config_of(task: str, model: str, args):
    """The config of a run, without start and seed."""
    recipe = TASKS[task]
    arguments = ",".join(filter(None, (f"model={model}", recipe.arguments)))
    config = importlib.import_module(f"configs.{recipe.config}").get_config(arguments)
    config.data.dir = args.data_dir
    config.total_steps = recipe.steps
    config.eval_every = config.checkpoint.every = recipe.steps // 4
    config.update_from_flattened_dict(recipe.changes)
    config.predict.examples = 0  # no report of each run
    if task == "retrieval":
        config.evals.ranking.first = IMAGES
    config.overfit = args.examples
    return config


def run(task: str, model: str, start: str, seed: int, args) -> dict:
    """Trains and tests; {"value", "seconds"} of the run, from its folder where it is done."""
    folder = remote.path(args.out) / task / f"{model}-{start}-{seed}"
    done = folder / "result.json"
    if done.is_file():
        return json.loads(done.read_text())
    config = config_of(task, model, args)
    config.seed = seed
    if start == "pre-trained":
        config.init = str(remote.path(args.pretrained) / f"{model}_pretrain")
    began = time.perf_counter()
    evals = config.evals.copy_and_resolve_references()
    with config.unlocked():  # ranking is for the test images alone: it takes its time
        config.evals = {name: block for name, block in evals.items() if name == "validation"}
    loop.run(config, folder, "train")
    with config.unlocked():
        config.evals = evals
    config.data.eval_split = "test"
    found = loop.run(config, folder, "eval")
    result = dict(
        value=found[f"evals/{TASKS[task].metric}"],
        seconds=round(time.perf_counter() - began, 1),
        evaluation=found,
    )
    done.write_text(json.dumps(result, indent=2) + "\n")
    return result


def prior(task: str, args) -> float:
    """What guessing reaches on the test images without looking at them.

    VQA: the most frequent training answer to questions of the type. Choices: chance. Referring
    expressions: a random region. Retrieval: a random image. NLVR2: the more frequent label.
    """
    config = config_of(task, "vilbert", args)
    prepared = datasets.prepare(config.data)
    if task == "vqa":
        counts = collections.defaultdict(collections.Counter)
        for question in prepared.records("train"):
            counts[question.question_type][question.answers[0].text] += 1
        likeliest = {kind: found.most_common(1)[0][0] for kind, found in counts.items()}
        scores = [
            next((a.score for a in q.answers if a.text == likeliest[q.question_type]), 0.0)
            for q in prepared.records("test")
        ]
        return statistics.fmean(scores)
    if task in ("vcr", "rationales"):
        return 1 / config.objectives.choice.choices
    if task == "nlvr2":
        return max(collections.Counter(r.label for r in prepared.records("test")).values()) / sum(
            1 for _ in prepared.records("test")
        )
    if task == "retrieval":
        return 1 / IMAGES
    return _random_region(config)


def _random_region(config) -> float:
    """Share of the candidates that are right, mean over expressions."""
    from input_pipeline.streams import pipeline
    from objectives import assemble

    config.data.eval_split = "test"
    stream = pipeline.build_evaluation(
        config, "examples", {"examples": assemble.caption}, batch_size=64, image_margin=0
    )
    shares = []
    for draw in range(stream.steps_per_epoch):
        batch = stream.batch(draw)
        right = ((batch["region_iou"] >= 0.5) & batch["region_mask"]).sum((1, 2))
        shares.append((right / batch["region_mask"].sum((1, 2)))[batch["_weight"] > 0])
    return float(np.concatenate(shares).mean())


def cell(values: list[float]) -> str:
    """ "71.2", or "71.2 ± 0.4" of several, in percent."""
    if not values:
        return "–"
    text = f"{100 * statistics.fmean(values):.1f}"
    return text + (f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else "")


def table(results: dict, priors: dict) -> str:
    """Markdown: a row a task, prior, and both starts of each model."""
    head = [f"{NAMES[m]}, {s}" for m in MODELS for s in STARTS]
    lines = [
        "| test images, % | prior | " + " | ".join(head) + " |",
        "|---" * (2 + len(head)) + "|",
    ]
    for task, recipe in TASKS.items():
        if task in priors:
            cells = [cell(results.get((task, m, s), [])) for m in MODELS for s in STARTS]
            row = [recipe.title, f"{100 * priors[task]:.1f}", *cells]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs what is not done yet, one seed of everything first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained", default="runs", help="folder of the pre-trained runs")
    parser.add_argument("--out", default="runs/downstream")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--tasks", type=arguments.some_of(list(TASKS)), default=",".join(TASKS))
    parser.add_argument("--models", type=arguments.some_of(MODELS), default=",".join(MODELS))
    parser.add_argument(
        "--seeds", type=arguments.whole(1), default=3, help="at most; some tasks have one"
    )
    parser.add_argument(
        "--examples", type=arguments.whole(0), default=0, help="training examples; 0: all"
    )
    args = parser.parse_args()
    tasks, models = args.tasks, args.models
    for model in models:  # before the runs from scratch, which take as long
        place = remote.path(args.pretrained) / f"{model}_pretrain"
        if not checkpoint.holds_one(place):
            parser.error(
                f"--pretrained: no run with checkpoints in {place}; make pretrain MODEL={model}"
            )
    out = remote.path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results, priors, seconds = collections.defaultdict(list), {}, []
    for seed, task in itertools.product(range(args.seeds), tasks):
        if task not in priors:
            priors[task] = prior(task, args)
        for model, start in itertools.product(models, STARTS):
            if seed < TASKS[task].seeds:
                found = run(task, model, start, seed, args)
                results[task, model, start].append(found["value"])
                seconds.append(found["seconds"])
                text = table(results, priors)
                (out / "table.md").write_text(text)
                print(f"\n{task}, {model}, {start}, seed {seed}: {found['value']:.4f} in "
                      f"{found['seconds']:.0f} s\n\n{text}", flush=True)  # fmt: skip
    print(f"{len(seconds)} runs, {statistics.median(seconds):.0f} s at the median, "
          f"{max(seconds):.0f} s at most")  # fmt: skip


if __name__ == "__main__":
    main()
