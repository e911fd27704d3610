"""What bfloat16 products cost: both models in both dtypes on the embedded data, as curves.

  python scripts/precision.py --out=runs/precision             # ten minutes of CPU time
  python scripts/precision.py --models=vlbert --steps=200

Each model trains in float32, in bfloat16 from the same seed (the same initial values, batches and
masks), and in float32 from another seed: what two seeds differ by is the scale for what two dtypes
differ by. A run that is done is not run again, and one that was interrupted goes on. Writes
OUT/table.md, OUT/result.json and the picture `--picture`, after the last run of a model.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


import numpy as np

from configs import vilbert_pretrain, vlbert_pretrain
from core import arguments
from training import loop
from training.run import metrics

MODELS = {"vlbert": vlbert_pretrain, "vilbert": vilbert_pretrain}
NAMES = {"vlbert": "VL-BERT", "vilbert": "ViLBERT"}
RUNS = {  # name: dtype, seed
    "float32": ("float32", 0),
    "bfloat16": ("bfloat16", 0),
    "float32, other seed": ("float32", 1),
}
SMOOTH = 50  # steps that a point of a curve is the mean of
LOG_EVERY = 5


def config_of(model: str, run: str, steps: int, data_dir: str):
    """The config of a run: the model's pre-training at mini size."""
    config = MODELS[model].get_config("size=mini")
    config.dtype, config.seed = RUNS[run]
    config.stream_schedule.starts = ()  # a stream that sets in would raise the loss
    config.data.dir = data_dir
    config.total_steps = config.eval_every = steps
    config.log_every = LOG_EVERY
    config.checkpoint.every = max(steps // 4, 1)
    config.checkpoint.best = ""
    config.predict.examples = 0
    return config


def smoothed(lines) -> tuple[np.ndarray, np.ndarray]:
    """(steps, training loss), each the mean of the last SMOOTH steps.

    Args:
      lines: of metrics.jsonl.
    """
    found = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    steps, losses = map(np.asarray, zip(*found, strict=True))
    window = min(SMOOTH // LOG_EVERY, len(steps))
    kernel = np.full(window, 1 / window)
    return steps[window - 1 :], np.convolve(losses, kernel, "valid")


def last_evaluation(lines, model: str) -> dict[str, float]:
    """{"loss": sum over the objectives on validation images, "visual_gain": points}."""
    line = [line for line in lines if any(name.startswith("evals/") for name in line)][-1]
    objectives = MODELS[model].get_config("size=mini").streams.captions.objectives
    return dict(
        loss=sum(line[f"evals/validation/{name}"] for name in objectives),
        visual_gain=line["evals/visual_gain/visual_gain"],
    )


def compare(found: dict, model: str) -> dict:
    """What bfloat16 and another seed differ by from float32.

    Args:
      found: {name of RUNS: lines of metrics.jsonl}.
    """
    steps, base = smoothed(found["float32"])
    end = last_evaluation(found["float32"], model)
    out = dict(steps=int(steps[-1]), float32=end)
    for run in list(RUNS)[1:]:
        other, last = smoothed(found[run])[1], last_evaluation(found[run], model)
        difference = other / base - 1
        out[run] = dict(
            last,
            train_mean=float(np.abs(difference).mean()),
            train_most=float(np.abs(difference).max()),
            train_signed=float(difference.mean()),
            validation=last["loss"] / end["loss"] - 1,
            visual_gain_points=last["visual_gain"] - end["visual_gain"],
        )
    return out


def table(results: dict) -> str:
    """Markdown: a row a model and run."""
    lines = [
        "| against float32 | smoothed training loss, mean (most) | validation loss | "
        "visual gain, points |",
        "|---|---|---|---|",
    ]
    for model, result in results.items():
        end = result["float32"]
        lines.append(
            f"| {NAMES[model]}, float32 | | {end['loss']:.3f} | {end['visual_gain']:.1f} |"
        )
        for run in list(RUNS)[1:]:
            one = result[run]
            lines.append(
                f"| {NAMES[model]}, {run} | {100 * one['train_mean']:.2f} % "
                f"({100 * one['train_most']:.2f} %) | {100 * one['validation']:+.2f} % | "
                f"{one['visual_gain_points']:+.1f} |"
            )
    return "\n".join(lines) + "\n"


def draw(curves: dict, path: pathlib.Path) -> None:
    """Draws a column a model: the losses, and under them the differences from float32.

    Args:
      curves: {model: {run: (steps, smoothed loss)}}.
      path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    styles = {
        "float32": dict(color="#1f4e79", linewidth=2.4, alpha=0.55),
        "bfloat16": dict(color="#c55a11", linewidth=1.1),
        "float32, other seed": dict(color="#7f7f7f", linewidth=1.1, linestyle="--"),
    }
    figure = Figure(figsize=(5.5 * len(curves), 6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        2, len(curves), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 2)
    )
    for column, (model, runs) in enumerate(curves.items()):
        above, below = grid[0, column], grid[1, column]
        base = runs["float32"][1]
        for run, (steps, losses) in runs.items():
            above.plot(steps, losses, label=run, **styles[run])
            if run != "float32":
                below.plot(steps, 100 * (losses / base - 1), label=run, **styles[run])
        below.axhline(0, color="#1f4e79", linewidth=0.8)
        above.set(title=NAMES[model])
        below.set(xlabel="optimizer step")
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
    grid[0, 0].set(ylabel=f"training loss, mean of {SMOOTH} steps")
    grid[1, 0].set(ylabel="difference from float32, %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def run_all(model: str, args) -> dict:
    """{name of RUNS: lines of metrics.jsonl}, of runs that are done at the end."""
    found = {}
    for run in RUNS:
        folder = pathlib.Path(args.out) / f"{model}-{run.replace(', ', '-').replace(' ', '-')}"
        if not (folder / "summary.json").is_file():
            loop.run(config_of(model, run, args.steps, args.data_dir), folder)
        found[run] = metrics.read(folder / metrics.FILE)
    return found


def main() -> None:
    """Runs what is not done yet, then compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/precision")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--models", type=arguments.some_of(list(MODELS)), default=",".join(MODELS))
    parser.add_argument("--steps", type=arguments.whole(2), default=600)
    parser.add_argument("--picture", help="default: OUT/precision.png")
    args = parser.parse_args()
    models, out = args.models, pathlib.Path(args.out)
    results, curves = {}, {}
    for model in models:
        found = run_all(model, args)
        results[model] = compare(found, model)
        curves[model] = {run: smoothed(lines) for run, lines in found.items()}
        (out / "result.json").write_text(json.dumps(results, indent=2) + "\n")
        (out / "table.md").write_text(table(results))
        draw(curves, pathlib.Path(args.picture or out / "precision.png"))
        print(f"\n{table(results)}", flush=True)


if __name__ == "__main__":
    main()
