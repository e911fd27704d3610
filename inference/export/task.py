"""A verb of a model as a function of the arrays that it reads alone."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from core.errors import ConfigError
from inference import questions
from inference.abilities import VERBS
from inference.layout import Batch, Example
from inference.tasks import TaskModel
from input_pipeline.texts.rows import Row
from vl_models import loading

KNOWN = (*VERBS, "embed")  # of the verbs
_REGIONS, _SIDE = 3, 100.0  # of the example's image


class Task:
    """A verb of a model as a function of the arrays that it reads alone.

    Attributes:
      verb, stream: what is asked, and the stream of the run that answers.
      program: of the model.
      layout: of its examples.
      weights: {path: array} that it reads.
      inputs: names of the arrays of a batch that it reads.
    """

    def __init__(self, model: TaskModel, verb: str, task: str = "", **options: int):
        """Finds out what the program reads.

        Args:
          model: whose it is.
          verb: one of KNOWN.
          task: stream of the run, see `TaskModel`.
          options: masks and top_k of fill_mask.

        Raises:
          ConfigError: no such verb, or the model cannot do it.
        """
        if verb not in KNOWN:
            raise ConfigError("this cannot be exported", expected=f"one of {KNOWN}", found=verb)
        self.stream, self.program = model.program(verb, task, **options)
        self.verb, self.layout = verb, self.program.layout
        self._example = _example(model, verb, self.stream)
        flat = {path: np.asarray(array) for path, array in loading.flatten(model.params).items()}
        batch = self.batch(1)
        self._params = {path: _spec(array) for path, array in flat.items()}
        kept = export.export(jax.jit(self._whole))(self._params, _specs(batch)).module_kept_var_idx
        names = [*sorted(flat), *sorted(batch)]  # as a tree of two dicts is flattened
        read = {names[i] for i in kept}
        self.weights = {path: array for path, array in flat.items() if path in read}
        self.inputs = sorted(read & set(batch))

    def _whole(self, params: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        return self.program.step(loading.unflatten(dict(params)), batch)

    def _read(
        self,
        batch: Mapping[str, jax.ShapeDtypeStruct],
        weights: Mapping[str, Any],
        inputs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What is not read is there for its shape alone."""
        return self._whole(_filled(self._params, weights), _filled(batch, inputs))

    def batch(self, size: int) -> Batch:
        """So many rows, the first of which is the example; the others have weight 0."""
        return self.layout.batch([self._example], size)

    def exported(self, size: int, platform: str) -> export.Exported:
        """program(weights, inputs) for a size of batch and a platform."""
        batch = _specs(self.batch(size))

        def run(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
            return self._read(batch, weights, inputs)

        given = {name: batch[name] for name in self.inputs}
        return export.export(jax.jit(run), platforms=[platform])(_specs(self.weights), given)

    def onnx(self, size: int) -> bytes:
        """A model of a size of batch with its weights; half precision is read as float32.

        Raises:
          ConfigError: the package jax2onnx is not there.
        """
        try:
            from jax2onnx import to_onnx
        except ImportError as error:
            raise ConfigError(
                "ONNX needs the package jax2onnx",
                expected="jax2onnx",
                found=str(error),
                fix='pip install -e ".[onnx]"',
            ) from error
        batch = _specs(self.batch(size))
        weights = {path: jnp.asarray(array) for path, array in self.weights.items()}
        read = {
            name: jax.ShapeDtypeStruct(
                batch[name].shape, plain(np.empty(0, batch[name].dtype)).dtype
            )
            for name in self.inputs
        }

        def run(*arrays: Any) -> tuple[Any, ...]:
            inputs = {
                name: array.astype(batch[name].dtype)
                for name, array in zip(read, arrays, strict=True)
            }
            out = self._read(batch, weights, inputs)
            return tuple(out[name] for name in sorted(out))

        outputs = sorted(jax.eval_shape(self._whole, self._params, batch))
        made = to_onnx(
            run,
            list(read.values()),
            model_name=self.verb,
            input_names=list(read),
            output_names=[f"output_{name}" for name in outputs],  # none may be called as an input
        )
        return made.SerializeToString()


def plain(array: np.ndarray) -> np.ndarray:
    """Half precision as float32, which holds it exactly and every reader knows."""
    half = array.dtype not in (np.float32, np.int32, np.int8, np.bool_)
    return np.ascontiguousarray(array.astype(np.float32) if half else array)


def _spec(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(array), array.dtype)


def _specs(arrays: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: _spec(array) for name, array in arrays.items()}


def _filled(specs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All arrays, zeros where one is not given."""
    return {
        name: given[name] if name in given else jnp.zeros(one.shape, one.dtype)
        for name, one in specs.items()
    }


def _example(model: TaskModel, verb: str, stream: str) -> Example:
    """A made-up example of the shapes that a verb reads."""
    spec, random = model.checkpoint.spec, np.random.default_rng(0)
    corners = random.uniform(0, _SIDE / 2, (_REGIONS, 2))
    boxes = np.concatenate([corners, corners + _SIDE / 4], 1)
    image: dict[str, Any] = dict(
        boxes=boxes,
        features=random.standard_normal((_REGIONS, spec.feature_dim)),
        size=(int(_SIDE), int(_SIDE)),
    )
    if spec.num_classes:
        image["class_probs"] = random.dirichlet(np.ones(spec.num_classes), _REGIONS)
    if spec.global_feature == "stored":
        image["global_feature"] = random.standard_normal(spec.feature_dim)
    trained = model.checkpoint.model
    count = 1 + max(number for _, number in trained.pairs[stream])
    word = questions.plain_word(model.checkpoint.tokenizer)
    rows: dict[str, Any] = dict(
        fill_mask=lambda: questions.masked(questions.MASK, model.checkpoint.tokenizer),
        answer=lambda: questions.question(word),
        choose=lambda: model.choice_rows(stream, trained.streams[stream][0])(
            word,
            [word] * trained.streams[stream][0].choices,
            (),
            word if model.answered(stream) else None,
            "",
        ),
        ground=lambda: questions.expression(word, None),
        point=lambda: questions.pointing(word, boxes),
        classify=lambda: questions.statement(word, count),
    )
    made: tuple[Row, ...] = rows.get(verb, lambda: questions.caption(word))()
    read = model.reader(stream).read(image)
    return Example(made, (read,) * (count if verb == "classify" else 1))
