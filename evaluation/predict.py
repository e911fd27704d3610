"""What a model answers to every example of a split, labelled or not; the files of --mode=predict.

WORKDIR/predictions/<split>.jsonl   {"id", ...} a line, as `Objective.describe` says
WORKDIR/submissions/…               the same in the data set's official format, where it has one
WORKDIR/report/index.html           a few examples with their pictures, spread over the split
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from core import remote
from core.console import say
from core.errors import ConfigError
from core.progress import Progress
from core.spacing import evenly_spaced
from evaluation import submissions
from evaluation.report import cards, report
from objectives import model

LOOKED_AT = 1000  # records among which one with a label is looked for


def streams_of(task) -> list[str]:
    """Names of the streams whose first objective predicts."""
    return [name for name, tasks in task.streams.items() if tasks[0].predicts]


class Predictor:
    """Runs the first objective of a stream on a split.

    Attributes:
      name: of the stream.
      stream: a `setup.EvaluationStream`.
    """

    def __init__(self, task, name: str, stream, place):
        """Arguments as evaluators have them.

        Raises:
          ConfigError: the stream's first objective predicts nothing.
        """
        objective = task.streams[name][0]
        if not objective.predicts:
            raise ConfigError(f"stream {name!r}: its first objective, {objective.name!r}, predicts "
                             "nothing")  # fmt: skip
        self.name, self.stream = name, stream
        self._objective, self._place = objective, place

        @jax.jit
        def step(params, batch):
            # What the stream's other objectives would hide stays visible.
            batch = objective.corrupt(model.dequantised(batch), None)
            outputs = task.outputs(params, name, batch)
            head = task.head(params, objective.head_name)
            return dict(
                found=objective.predictions(objective.logits(head, outputs, batch), batch),
                example=batch["example_index"],
                real=batch["_weight"] > 0,
                image=batch["image_key"][:, 0],
                size=batch["image_size"][:, 0],
            )

        self._step = step

    def run(self, params, draws: Sequence[int] | None = None) -> Iterator[dict]:
        """Predictions {"id": text_id, ...}, each example once; on every process all of them.

        Args:
          params: of the task.
          draws: numbers of the batches to predict; None: all.
        """
        stream = self.stream.stream
        total = stream.num_examples if draws is None else None
        progress = Progress(f"predict {self.stream.split}", total, unit="examples")
        for batch in self.stream.batches() if draws is None else self.stream.pick(draws):
            out = self._step(params, self._place(batch))
            if jax.process_count() > 1:
                out = multihost_utils.process_allgather(out, tiled=True)
            out = jax.tree.map(np.asarray, out)
            rows = np.flatnonzero(out["real"]).tolist()
            for i in rows:
                row = {key: array[i] for key, array in out["found"].items()}
                found = self._objective.describe(row, self.stream.names)
                if "box" in found:
                    found["box"] = self._original(found["box"], out["image"][i], out["size"][i])
                yield {"id": stream.text_id(out["example"][i])} | found
            if jax.process_index() == 0:
                progress.add(len(rows))

    def _original(self, box: Sequence[float], image: int, size: np.ndarray) -> list[float]:
        """A box in pixels of the original image, from pixels of an image of `size` (h, w)."""
        store = self.stream.stream.store
        height, width = store.heights[image] / size[0], store.widths[image] / size[1]
        return (np.asarray(box, np.float64) * [width, height, width, height]).tolist()


def labelled(stream) -> bool:
    """Whether the truth is known of examples of an evaluation stream."""
    if stream.records is None:
        return True
    return any(record.labelled for record in itertools.islice(stream.records(), LOOKED_AT))


def write(config, workdir: remote.Path, predictors: Mapping[str, Predictor], params) -> dict:
    """Writes predictions and submission files; on the first process alone.

    Returns:
      {stream: some predictions, for the report}.
    """
    shown = {}
    for name, predictor in predictors.items():
        split = predictor.stream.split
        stem = split if len(predictors) == 1 else f"{name}-{split}"
        path = workdir / "predictions" / f"{stem}.jsonl"
        total, count = predictor.stream.stream.num_examples, config.predict.examples
        chosen = set(evenly_spaced(total, count).tolist())
        rows = predictor.run(params)
        if jax.process_index() == 0:
            shown[name] = _save(path, rows, chosen)
            made = submissions.write(
                config.data.dataset,
                path,
                workdir / "submissions",
                records=predictor.stream.records,
                task=config.data.task,
            )
            say("predictions: " + ", ".join(map(str, [path, *made])))
        else:
            shown[name] = [row for i, row in enumerate(rows) if i in chosen]
    return shown


def _save(path: remote.Path, rows: Iterable[dict], chosen: set[int]) -> list[dict]:
    """Writes predictions, a line each; returns those at the chosen places."""
    kept = []
    with submissions.text_file(path) as file:
        for i, row in enumerate(rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            if i in chosen:
                kept.append(row)
    return kept


def some(config, predictors: Mapping[str, Predictor], params) -> dict:
    """{stream: predictions of a few examples}, without predicting the split."""
    out, count = {}, config.predict.examples
    for name, predictor in predictors.items():
        draws = evenly_spaced(predictor.stream.stream.steps_per_epoch, count).tolist()
        rows = list(predictor.run(params, draws))
        out[name] = [rows[i] for i in evenly_spaced(len(rows), count)]
    return out


def write_report(
    config, workdir: remote.Path, predictors: Mapping[str, Predictor], shown: Mapping, figures
) -> remote.Path:
    """Writes WORKDIR/report/index.html.

    Args:
      config: of the run.
      workdir: its folder.
      predictors: whose predictions are shown.
      shown: {stream: predictions}.
      figures: {"evals/<name>/<metric>": value}.
    """
    made = []
    for name, predictor in predictors.items():
        made += cards.make(shown[name], predictor.stream, config.data.task)
    splits = ", ".join(sorted({predictor.stream.split for predictor in predictors.values()}))
    path = workdir / "report" / "index.html"
    named = {key.removeprefix("evals/"): value for key, value in figures.items()}
    report.write(path, f"{remote.absolute(workdir).name}: {splits}", named, made)
    return path
