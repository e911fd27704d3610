"""loss.png: the curves of a run, drawn from its metrics.jsonl."""

import io
import os
from collections.abc import Callable

from core import remote
from core.headings import PRIOR
from training.run import metrics

FILE = "loss.png"


def draw(workdir: str | os.PathLike[str]) -> remote.Path | None:
    """Draws WORKDIR/loss.png; returns its path, or None where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    workdir = remote.path(workdir)
    lines = metrics.read(workdir / metrics.FILE)

    def curves(wanted: Callable[[str], bool]) -> dict[str, list[tuple[int, float]]]:
        """{metric: its (step, value)}."""
        found: dict[str, list[tuple[int, float]]] = {}
        for line in lines:
            for name, value in line.items():
                if wanted(name) and value is not None:
                    found.setdefault(name, []).append((line["step"], value))
        return found

    panels = {
        "training loss": curves(lambda n: n == "train/loss" or n.startswith("train/loss/")),
        "accuracy": curves(
            lambda n: (n.endswith("accuracy") or "accuracy_" in n) and not n.endswith(PRIOR)
        ),
    }
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, named) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for name, points in named.items():
            steps, values = zip(*points, strict=True)
            marker = "o" if name.startswith("evals/") else None
            axes.plot(steps, values, label=name, marker=marker, linewidth=1.2, markersize=3)
        axes.set(title=title, xlabel="optimizer step")
        axes.grid(alpha=0.3)
        if named:
            axes.legend(fontsize=7)
    path = workdir / FILE
    image = io.BytesIO()
    figure.savefig(image, dpi=120)
    path.write_bytes(image.getvalue())
    return path
