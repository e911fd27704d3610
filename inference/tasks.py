"""The verbs of a trained model, on plain Python values: `inference.load` opens one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import ConfigError, DataError
from evaluation import pair_scores, predict
from inference import grid, questions, states
from inference.asking import Asker, Told
from inference.layout import Batch
from inference.results import (
    Alignment,
    Answer,
    Attention,
    Choice,
    Class,
    Embedding,
    FilledMask,
    Ranking,
    Region,
)
from input_pipeline.datasets.records import mentions
from objectives import base
from objectives.model import dequantised
from vl_models.layers import FIRST_PAIR


class TaskModel(Asker):
    """A trained model that is asked things; threads may share it.

    A verb takes one text, or a list of texts with a list of images or one image for all, and gives
    one result, or a list. Where one item of a list is wrong, the error names its position and
    nothing is answered. What an image may be: `images.FORMS`, or a picture with an extractor.

    Every verb takes `task`, the stream of the run that is to answer; empty: the only one, or the
    first of several that share their parameters. All raise `core.errors.UserError`: of a wrong text
    or image, and of a model that cannot do what is asked, with what it can.
    """

    def fill_mask(self, text: Any, image: Any, top_k: int = 5, *, task: str = "") -> Any:
        """The best words for each [MASK] of a text; one mask is one word piece.

        Args:
          text: with "[MASK]" in it; or a list.
          image: what it is about; or a list.
          top_k: words per mask.
          task: see the class.

        Returns:
          FilledMask, or a list.
        """
        stream, objective = self._task("fill_mask", task)
        model, tokenizer = self._checkpoint.model, self._checkpoint.tokenizer
        asked = self._asked(text, image, lambda one: questions.masked(one, tokenizer))
        most = max(len(row.probe) for example in asked.examples for row in example.rows)
        count = 2 ** (most - 1).bit_length()  # few programs
        names = list(tokenizer.vocab)
        top = _top(top_k, len(names))

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            hidden, _, weights = objective.fill_marked(dequantised(batch), count)
            outputs = model.outputs(params, stream, hidden, pairs=FIRST_PAIR)
            logits = objective.logits(model.head(params, objective.head_name), outputs, hidden)
            best, ids = jax.lax.top_k(jax.nn.softmax(logits), top)
            return dict(shares=best, ids=ids, weights=weights)

        results = []
        for told in self._run(asked, self._single(stream), ("fill", stream, count, top), step):
            pairs = zip(told.row["ids"].tolist(), told.row["shares"].tolist(), strict=True)
            masks = tuple(
                tuple((names[i], share) for i, share in zip(*pair, strict=True))
                for pair, used in zip(pairs, told.row["weights"], strict=True)
                if used
            )
            filled = told.value
            for mask in masks:
                filled = filled.replace(questions.MASK, mask[0][0], 1)
            results.append(FilledMask(told.value, filled, masks, images=told.images))
        return asked.given(results)

    def answer(self, question: Any, image: Any, top_k: int = 5, *, task: str = "") -> Any:
        """Answers to a question, from the model's list.

        Args:
          question: or a list.
          image: or a list.
          top_k: answers that are told.
          task: see the class.

        Returns:
          Answer, or a list.
        """
        stream, objective = self._task("answer", task)
        names = objective.output_names
        top = _top(top_k, len(names))
        asked = self._asked(question, image, questions.question)

        def tell(logits: Any, batch: base.Arrays) -> dict[str, Any]:
            del batch
            return objective.ranked(logits, len(names))

        results = []
        for told in self._predictions(asked, stream, tell):
            best = {key: array[:top] for key, array in told.row.items()}
            row = objective.describe(best, names)
            ranked = tuple((name, share) for name, share in row["top"])
            results.append(
                Answer(told.value, row["answer"], row["probability"], ranked, images=told.images)
            )
        return asked.given(results)

    def choose(
        self,
        question: Any,
        choices: Any,
        image: Any,
        *,
        objects: Any = (),
        answer: Any = None,
        key: Any = "",
        task: str = "",
    ) -> Any:
        """Which of several answers, or rationales of an answered question, fits.

        Texts may mention objects by number: "Is [0] looking at [1] ?", or as a tuple of words and
        of lists of numbers, ("Is", [0], "looking", "at", [1], "?").

        Args:
          question: or a list.
          choices: as many texts as the model was trained with; or a list of those.
          image: or a list.
          objects: (name, box) of what texts mention, xyxy in pixels of the image; or a list of
            those.
          answer: to the question, where rationales are to be chosen; or a list.
          key: from which the names of persons follow, as of an example's id; or a list.
          task: see the class.

        Returns:
          Choice, or a list.
        """
        stream, objective = self._task("choose", task)
        block = self._checkpoint.config.streams[stream].data
        answered = block.get("records") == "rationales"
        joined_by = mentions.joined_by(block)

        def rows(asked: Any, texts: Any, found: Any, given: Any, name: Any) -> Any:
            if answered != (given is not None):
                raise DataError(
                    "this model chooses rationales of an answered question"
                    if answered
                    else "this model chooses answers, not rationales",
                    expected="answer=<the answer>" if answered else "answer=None",
                    found=repr(given),
                )
            if not isinstance(texts, list | tuple) or len(texts) != objective.choices:
                raise DataError(
                    "a question has another number of choices than the model was trained with",
                    expected=objective.choices,
                    found=len(texts) if isinstance(texts, list | tuple) else repr(texts),
                )
            return questions.choice(
                asked, texts, objects=found, answer=given, key=name or "", joined_by=joined_by
            )

        asked = self._asked(question, image, rows, choices, objects, answer, key)
        results = []
        for told, example in zip(
            self._predictions(asked, stream, objective.predictions), asked.examples, strict=True
        ):
            row = objective.describe(told.row)
            first, *others = (one.text for one in example.rows)
            results.append(
                Choice(
                    first, tuple(others), row["choice"], tuple(row["probabilities"]),
                    tuple(row["logits"]), images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)

    def ground(self, expression: Any, image: Any, *, candidates: Any = None, task: str = "") -> Any:
        """The region that an expression means.

        Args:
          expression: or a list.
          image: or a list.
          candidates: boxes to choose from, xyxy in pixels of the image, each of which a region of
            it shows; or a list of those. None: all regions. The whole image always is one.
          task: see the class.

        Returns:
          Region, or a list.
        """
        asked = self._asked(expression, image, questions.expression, candidates)
        return self._located("ground", asked, task)

    def point(self, text: Any, boxes: Any, image: Any, *, task: str = "") -> Any:
        """Which of some boxes a text means, such as the answer to a question.

        Args:
          text: or a list.
          boxes: xyxy in pixels of the image, each of which a region of it shows; or a list of
            those.
          image: or a list.
          task: see the class.

        Returns:
          Region, or a list.
        """
        asked = self._asked(text, image, questions.pointing, boxes)
        return self._located("point", asked, task)

    def _located(self, verb: str, asked: Any, task: str) -> Any:
        stream, objective = self._task(verb, task)
        results = []
        # Other arrays make another program of the same function.
        for told in self._predictions(asked, stream, objective.predictions):
            row = objective.describe(told.row)
            box = predict.in_original(
                row["box"],
                told.batch["image_size"][0],
                told.images[0].height,
                told.images[0].width,
            )
            results.append(
                Region(
                    told.value, row["region"], tuple(box), row["score"], row.get("option"),
                    images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)

    def classify(self, text: Any, images: Any, *, task: str = "") -> Any:
        """The class of a text and its image, or its images.

        Args:
          text: or a list.
          images: an image, where the model reads one with a text, else a list of images; or a list
            of those.
          task: see the class.

        Returns:
          Class, or a list.
        """
        stream, objective = self._task("classify", task)
        count = 1 + max(image for _, image in self._checkpoint.model.pairs[stream])
        asked = self._asked(
            text, images, lambda one: questions.statement(one, count), per_text=count
        )
        results = []
        for told in self._predictions(asked, stream, objective.predictions):
            row = objective.describe(told.row, objective.output_names)
            shares = tuple(row["probabilities"])
            names = objective.output_names or tuple(map(str, range(len(shares))))
            results.append(
                Class(
                    told.value, row["class"], names[row["class"]], names, shares,
                    row.get("activation") != "sigmoid", images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)

    def align(self, text: Any, image: Any, *, task: str = "") -> Any:
        """Whether a text belongs to an image.

        Args:
          text: or a list.
          image: or a list.
          task: see the class.

        Returns:
          Alignment, or a list.
        """
        stream, objective = self._task("align", task)
        model = self._checkpoint.model
        asked = self._asked(text, image, questions.caption)

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            outputs = model.outputs(params, stream, batch, pairs=FIRST_PAIR, pooled_only=True)
            logits = model.head(params, objective.head_name)(objective.pooled(outputs))
            scores = objective.pair_scores(logits)
            return dict(
                match=objective.pair_matches(logits), score=scores, share=jax.nn.sigmoid(scores)
            )

        return asked.given(
            [
                Alignment(
                    told.value, bool(told.row["match"]), float(told.row["share"]),
                    float(told.row["score"]), images=told.images,
                )
                for told in self._run(asked, self._single(stream), ("align", stream), step)
            ]
        )  # fmt: skip

    def rank(self, texts: Any, images: Any, *, task: str = "") -> Ranking:
        """Scores of every text with every image.

        Where text and image meet late (ViLBERT), what lies below runs once per text and per image.

        Args:
          texts: a list, or one.
          images: a list, or one.
          task: see the class.

        Returns:
          Ranking, which tells the best images of a text and the best texts of an image.
        """
        stream, objective = self._task("rank", task)
        model, layout = self._checkpoint.model, self._captions(stream)
        texts = texts if isinstance(texts, list) else [texts]
        images = images if isinstance(images, list) else [images]
        if not texts or not images:
            raise DataError("nothing to rank", expected="a text and an image at least")
        count = max(len(texts), len(images))
        at = [(i % len(texts), i % len(images)) for i in range(count)]
        asked = self._asked(
            [texts[i] for i, _ in at], [images[i] for _, i in at], questions.caption
        )
        rows = [layout.batch(asked.examples[i : i + 1], 1) for i in range(count)]
        grid.check(rows, layout.max_length)

        def step(params: Any, batch: Batch) -> Any:
            return pair_scores.of_grid(model, objective, params, stream, batch)

        scores = np.empty((len(texts), len(images)), np.float32)
        key = ("rank", stream)
        for at, batch in grid.parts(rows, len(texts), len(images), self._sizes):
            (found,) = self._call(key, step, batch)
            part = scores[at]
            part[...] = found[: part.shape[0], : part.shape[1]]
        shown = tuple(asked.examples[i].images[0] for i in range(len(images)))
        return Ranking(tuple(texts), tuple(one.key for one in shown), scores, images=shown)

    def embed(self, text: Any, image: Any, *, task: str = "") -> Any:
        """States of the last layer: of the pair, of each word and of each region.

        Args:
          text: or a list.
          image: or a list.
          task: whose layout of texts and images holds, see the class.

        Returns:
          Embedding, or a list.
        """
        stream, _ = self._task("embed", task)
        model = self._checkpoint.model
        asked = self._asked(text, image, questions.caption)

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            outputs = model.outputs(params, stream, batch, pairs=FIRST_PAIR)
            return {
                name: outputs[name].astype(jnp.float32)
                for name in ("text", "regions", "pooled")
                if name in outputs
            }

        names = list(self._checkpoint.tokenizer.vocab)
        results = []
        for told in self._run(asked, self._captions(stream), ("embed", stream), step):
            words, word_states = states.of_words(told.row["text"], told.batch, names)
            results.append(
                Embedding(
                    told.value, words, word_states, _boxes(told),
                    told.row["regions"][told.batch["region_mask"][0]], told.row.get("pooled"),
                    images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)

    def attention(self, text: Any, image: Any, *, hidden: bool = False, task: str = "") -> Any:
        """Attention of all layers and heads.

        Args:
          text: or a list.
          image: or a list.
          hidden: whether to tell the states of all layers, too.
          task: whose layout of texts and images holds, see the class.

        Returns:
          Attention, or a list.
        """
        stream, _ = self._task("attention", task)
        model = self._checkpoint.model
        asked = self._asked(text, image, questions.caption)
        capture = ("attention", "hidden") if hidden else ("attention",)

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            outputs = model.outputs(params, stream, batch, pairs=FIRST_PAIR, capture=capture)
            return {name: states.named(outputs[name], name) for name in capture}

        names = list(self._checkpoint.tokenizer.vocab)
        results = []
        for told in self._run(asked, self._single(stream), ("attention", stream, hidden), step):
            tokens = told.batch["text_ids"][0][told.batch["text_mask"][0]]
            real = states.real_positions(model.trunk, told.batch)
            results.append(
                Attention(
                    told.value, tuple(names[i] for i in tokens.tolist()), _boxes(told),
                    states.maps(told.row["attention"], real),
                    states.hidden(told.row.get("hidden", {}), real), images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)


def _boxes(told: Told) -> np.ndarray:
    """float32 [R, 4]: of the regions that the model read, in pixels of the image."""
    (image,), mask = told.images, told.batch["region_mask"][0]
    size = told.batch["image_size"][0]
    return np.array(
        [
            predict.in_original(box, size, image.height, image.width)
            for box in told.batch["boxes"][0][mask]
        ],
        np.float32,
    )


def _top(top_k: Any, most: int) -> int:
    """A number of answers, at most as many as there are.

    Raises:
      ConfigError: it is none.
    """
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise ConfigError("top_k is no number", expected="a whole number from 1", found=repr(top_k))
    return min(top_k, most)
