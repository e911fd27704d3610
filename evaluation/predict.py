"""What a model answers to every example of a split, labelled or not; the files of --mode=predict.

WORKDIR/predictions/<split>.jsonl   one {"id", ...} per line, as `Objective.describe` says
WORKDIR/submissions/…               the same in the data set's official format, where it has one
WORKDIR/report/predict-<split>.html all of them, to be searched and sorted (`evaluation.browser`);
                                    index.html beside it is the report of the training, a few
                                    examples with their pictures
"""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from core import remote
from core.console import say
from core.errors import ConfigError
from core.progress import Progress
from core.spacing import evenly_spaced
from evaluation import prediction_file
from evaluation.browser import examples, page
from evaluation.prediction_file import Answered, Prediction
from evaluation.report import cards, details, report
from evaluation.stream import EvaluationStream, Place
from evaluation.submissions import formats
from objectives import base, masking
from objectives.model import MultiTaskModel, dequantised
from runtime import sharding

LOOKED_AT = 1000  # records among which one with a label is looked for


def streams_of(model: MultiTaskModel) -> list[str]:
    """Names of the streams whose first objective predicts."""
    return [name for name, objectives in model.streams.items() if objectives[0].predicts]


def logits_of(
    model: MultiTaskModel, params: PyTree, name: str, batch: base.Arrays
) -> tuple[jax.Array, base.Arrays]:
    """Logits of the first objective of a stream, and the batch as it reads it.

    What the stream's other objectives would hide stays visible.
    """
    objective = model.streams[name][0]
    keys = masking.row_keys(jax.random.key(0), batch["example_index"])  # nothing is random
    batch = objective.corrupt(dequantised(batch), keys)
    outputs = model.outputs(params, name, batch)
    return objective.logits(model.head(params, objective.head_name), outputs, batch), batch


def losses_of(
    objective: base.Objective, logits: jax.Array, batch: base.Arrays
) -> Float[Array, " B"]:
    """The loss of each example, [B]; NaN of those without a label.

    Numerator and denominator of a loss are sums over examples with the weights `_weight`, so their
    derivatives by the weights are the examples' parts.
    """

    def parts(total: Callable[[base.Arrays], base.Scalar]) -> Float[Array, " B"]:
        return jax.grad(lambda weight: total({**batch, "_weight": weight}))(batch["_weight"])

    loss, terms = parts(functools.partial(objective.loss, logits)), parts(objective.weight)
    return jnp.where(terms > 0, loss / jnp.where(terms > 0, terms, 1), jnp.nan)


def in_original(box: Sequence[float], size: np.ndarray, height: float, width: float) -> list[float]:
    """A box in pixels of an image of that height and width, from those of `size` (h, w)."""
    by_height, by_width = height / size[0], width / size[1]
    scale = [by_width, by_height, by_width, by_height]
    return (np.asarray(box, np.float64) * scale).tolist()


class Predictor:
    """Runs the first objective of a stream on a split.

    Attributes:
      name: of the stream.
      stream: the split's examples.
      traced: traced(params, batch, *, measured) → what `read` takes; to be compiled.
    """

    def __init__(self, model: MultiTaskModel, name: str, stream: EvaluationStream, place: Place):
        """Arguments as evaluators have them; `name` is the stream's.

        Raises:
          ConfigError: the stream's first objective predicts nothing.
        """
        objective = model.streams[name][0]
        if not objective.predicts:
            raise ConfigError(
                f"stream {name!r}: its first objective, {objective.name!r}, predicts nothing"
            )
        self.name, self.stream = name, stream
        self._objective, self._place = objective, place

        def step(params: PyTree, batch: base.Arrays, *, measured: bool) -> dict[str, Any]:
            logits, batch = logits_of(model, params, name, batch)
            out = dict(
                found=objective.predictions(logits, batch),
                example=batch["example_index"],
                real=batch["_weight"] > 0,
                image=batch["image_key"][:, 0],
                size=batch["image_size"][:, 0],
            )
            if measured:
                out["loss"] = losses_of(objective, logits, batch)
                out["regions"] = (batch["region_mask"].sum(-1) - 1).sum(-1)
            return out

        self.traced = step
        self._step = jax.jit(step, static_argnames="measured")

    def run(self, params: PyTree, draws: Sequence[int] | None = None) -> Iterator[Prediction]:
        """Predictions {"id": text_id, ...}, each example once; on every process all of them.

        Args:
          params: of the model.
          draws: numbers of the batches to predict; None: all.
        """
        return (prediction for prediction, _ in self._run(params, draws, measured=False))

    def measured(self, params: PyTree) -> Iterator[Answered]:
        """The same of the whole split, with each example's loss and number of regions."""
        for prediction, known in self._run(params, None, measured=True):
            loss = float(known["loss"])
            yield Answered(prediction, loss if math.isfinite(loss) else None, int(known["regions"]))

    def _run(
        self, params: PyTree, draws: Sequence[int] | None, *, measured: bool
    ) -> Iterator[tuple[Prediction, dict[str, np.ndarray]]]:
        """(prediction, what else the step says of its example)."""
        stream = self.stream
        total = stream.num_examples if draws is None else None
        progress = Progress(f"predict {stream.split}", total, unit="examples")
        for batch in stream.batches() if draws is None else stream.pick(draws):
            found = self.read(self._step(params, self._place(batch), measured=measured))
            yield from found
            if jax.process_index() == 0:
                progress.add(len(found))

    def read(self, out: dict[str, Any]) -> list[tuple[Prediction, dict[str, np.ndarray]]]:
        """(prediction, what else the step says of its example) of what `traced` gave of a batch."""
        out, made = sharding.gathered(out), []
        for i in np.flatnonzero(out["real"]).tolist():
            row = {key: array[i] for key, array in out["found"].items()}
            found = self._objective.describe(row, self.stream.output_names)
            if "box" in found:
                found["box"] = self._original(found["box"], out["image"][i], out["size"][i])
            known = {key: out[key][i] for key in ("loss", "regions") if key in out}
            made.append(({"id": self.stream.text_id(out["example"][i])} | found, known))
        return made

    def _original(self, box: Sequence[float], image: int, size: np.ndarray) -> list[float]:
        """A box in pixels of the original image, from pixels of an image of `size` (h, w)."""
        store = self.stream.store
        return in_original(box, size, store.heights[image], store.widths[image])


def labelled(stream: EvaluationStream) -> bool:
    """Whether the truth is known of examples of an evaluation stream."""
    if stream.records is None:
        return True
    return any(record.labelled for record in itertools.islice(stream.records(), LOOKED_AT))


def write(
    workdir: remote.Path, predictors: Mapping[str, Predictor], params: PyTree
) -> dict[str, list[Answered]]:
    """Writes predictions and submission files; on the first process alone.

    Returns:
      {stream: what was answered}, on the first process.
    """
    answered = {}
    for name, predictor in predictors.items():
        split = predictor.stream.split
        stem = split if len(predictors) == 1 else f"{name}-{split}"
        path = workdir / "predictions" / f"{stem}.jsonl"
        rows = predictor.measured(params)
        if jax.process_index() == 0:
            answered[name] = _save(path, rows)
            made = formats.write(
                predictor.stream.dataset,
                path,
                workdir / "submissions",
                records=predictor.stream.records,
                kind=predictor.stream.record_kind,
            )
            say("predictions: " + ", ".join(map(str, [path, *made])))
        else:
            for _ in rows:
                pass
    return answered


def _save(path: remote.Path, rows: Iterable[Answered]) -> list[Answered]:
    """Writes predictions, one per line; returns what was answered."""
    kept = []
    with prediction_file.text_file(path) as file:
        for row in rows:
            file.write(json.dumps(row.prediction, ensure_ascii=False) + "\n")
            kept.append(row)
    return kept


def some(
    config: ConfigDict, predictors: Mapping[str, Predictor], params: PyTree
) -> dict[str, list[Prediction]]:
    """{stream: predictions of a few examples}, without predicting the split."""
    out, count = {}, config.predict.examples
    for name, predictor in predictors.items():
        draws = evenly_spaced(predictor.stream.steps_per_epoch, count).tolist()
        rows = list(predictor.run(params, draws))
        out[name] = [rows[i] for i in evenly_spaced(len(rows), count)]
    return out


def write_report(
    workdir: remote.Path,
    predictors: Mapping[str, Predictor],
    shown: Mapping[str, Sequence[Prediction]],
    measured: details.Measured,
    config: ConfigDict,
) -> remote.Path:
    """Writes WORKDIR/report/index.html, at the end of a training.

    Args:
      workdir: folder of the run.
      predictors: whose predictions are shown.
      shown: {stream: predictions}.
      measured: metrics to show above them.
      config: of the run.
    """
    made: list[report.Card] = []
    for name, predictor in predictors.items():
        made += cards.make(shown[name], predictor.stream)
    path = workdir / "report" / "index.html"
    report.write(path, title_of(workdir, predictors), {}, made, details.of(measured, config))
    return path


def write_browser(
    workdir: remote.Path,
    predictors: Mapping[str, Predictor],
    answered: Mapping[str, Sequence[Answered]],
    measured: details.Measured,
    config: ConfigDict,
) -> remote.Path:
    """Writes WORKDIR/report/predict-<split>.html, which has all predictions of a split.

    Args:
      workdir: folder of the run.
      predictors: whose predictions they are.
      answered: of `write`.
      measured: metrics to show above them.
      config: of the run.
    """
    streams = {name: predictor.stream for name, predictor in predictors.items()}
    name = "-".join(["predict", *_splits(predictors)]).replace("/", "-")
    path = workdir / "report" / f"{name}.html"
    made = examples.of_streams(answered, streams)
    pictures = examples.pictures(made, streams)
    page.write(
        path,
        page.content(
            title_of(workdir, predictors),
            remote.absolute(workdir).name,
            made,
            pictures,
            details.of(measured, config),
            place=str(workdir),
            splits={name: stream.split for name, stream in streams.items()},
        ),
    )
    return path


def title_of(workdir: remote.Path, predictors: Mapping[str, Predictor]) -> str:
    """Such as "vqa: examples of validation"."""
    return f"{remote.absolute(workdir).name}: examples of {', '.join(_splits(predictors))}"


def _splits(predictors: Mapping[str, Predictor]) -> list[str]:
    return sorted({predictor.stream.split for predictor in predictors.values()})
