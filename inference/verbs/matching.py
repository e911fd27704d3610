"""What models are pre-trained for: masked words, and whether text and image fit."""

from typing import Any

import jax
import numpy as np

from core.errors import DataError
from evaluation import pair_scores
from inference import grid, questions
from inference.asking import Asker
from inference.layout import Batch
from inference.programs import Program
from inference.results import Alignment, FilledMask, Ranking
from inference.verbs.options import top
from objectives import base
from objectives.model import dequantised
from vl_models.layers import FIRST_PAIR


class Matching(Asker):
    """Verbs of objectives of pre-training and of retrieval."""

    def filling(self, stream: str, objective: base.Objective, count: int, kept: int) -> Program:
        """The `kept` best pieces for each of the first `count` marked ones."""
        model = self.checkpoint.model

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            hidden, _, weights = objective.fill_marked(dequantised(batch), count)
            outputs = model.outputs(params, stream, hidden, pairs=FIRST_PAIR)
            logits = objective.logits(model.head(params, objective.head_name), outputs, hidden)
            best, ids = jax.lax.top_k(jax.nn.softmax(logits), kept)
            return dict(shares=best, ids=ids, weights=weights)

        return Program(("fill", stream, count, kept), self._single(stream), step)

    def judging(self, stream: str, objective: base.Objective) -> Program:
        """Whether each text and its image belong together."""
        model = self.checkpoint.model

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            outputs = model.outputs(params, stream, batch, pairs=FIRST_PAIR, pooled_only=True)
            logits = model.head(params, objective.head_name)(objective.pooled(outputs))
            scores = objective.pair_scores(logits)
            return dict(
                match=objective.pair_matches(logits), score=scores, share=jax.nn.sigmoid(scores)
            )

        return Program(("align", stream), self._single(stream), step)

    def scoring(self, stream: str, objective: base.Objective) -> Program:
        """Scores of each example's texts with its images."""
        model = self.checkpoint.model

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            return dict(scores=pair_scores.of_grid(model, objective, params, stream, batch))

        return Program(("rank", stream), self._captions(stream), step)

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
        tokenizer = self.checkpoint.tokenizer
        asked = self._asked(stream, text, image, lambda one: questions.masked(one, tokenizer))
        most = max(len(row.probe) for example in asked.examples for row in example.rows)
        count = 2 ** (most - 1).bit_length()  # few programs
        names = tokenizer.pieces
        program = self.filling(stream, objective, count, top(top_k, len(names)))
        results = []
        for told in self._programs.run(program, asked):
            pairs = zip(told.row["ids"].tolist(), told.row["shares"].tolist(), strict=True)
            masks = tuple(
                tuple((names[i], share) for i, share in zip(*pair, strict=True))
                for pair, used in zip(pairs, told.row["weights"], strict=True)
                if used
            )
            filled = questions.filled(told.value, [mask[0][0] for mask in masks])
            results.append(FilledMask(told.value, filled, masks, images=told.images))
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
        asked = self._asked(stream, text, image, questions.caption)
        return asked.given(
            [
                Alignment(
                    told.value, bool(told.row["match"]), float(told.row["share"]),
                    float(told.row["score"]), images=told.images,
                )
                for told in self._programs.run(self.judging(stream, objective), asked)
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
        program = self.scoring(stream, objective)
        layout = program.layout
        texts = texts if isinstance(texts, list) else [texts]
        images = images if isinstance(images, list) else [images]
        if not texts or not images:
            raise DataError("nothing to rank", expected="a text and an image at least")
        count = max(len(texts), len(images))
        at = [(i % len(texts), i % len(images)) for i in range(count)]
        asked = self._asked(
            stream, [texts[i] for i, _ in at], [images[i] for _, i in at], questions.caption
        )
        rows = [layout.batch(asked.examples[i : i + 1], 1) for i in range(count)]
        grid.check(rows, layout.max_length)

        scores = np.empty((len(texts), len(images)), np.float32)
        same = {key: rows[0][key] for key in ("task_id",) if key in rows[0]}
        for at, batch in grid.parts(rows, len(texts), len(images), self._programs.sizes):
            (found,) = self._programs.call(program, batch | same)["scores"]
            part = scores[at]
            part[...] = found[: part.shape[0], : part.shape[1]]
        shown = tuple(asked.examples[i].images[0].outline() for i in range(len(images)))
        return Ranking(tuple(texts), tuple(one.key for one in shown), scores, images=shown)
