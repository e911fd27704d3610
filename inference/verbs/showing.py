"""What a model makes of a text and an image on the way: states and attention."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from evaluation import predict
from inference import questions, states
from inference.asking import Asker
from inference.layout import Batch
from inference.programs import Program, Told
from inference.results import Attention, Embedding
from vl_models.layers import FIRST_PAIR


class Showing(Asker):
    """Verbs of any model that reads images."""

    def embedding(self, stream: str) -> Program:
        """States of the last layer."""
        model = self.checkpoint.model

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            outputs = model.outputs(params, stream, batch, pairs=FIRST_PAIR)
            return {
                name: outputs[name].astype(jnp.float32)
                for name in ("text", "regions", "pooled")
                if name in outputs
            }

        return Program(("embed", stream), self._captions(stream), step)

    def attending(self, stream: str, hidden: bool) -> Program:
        """Attention of all layers, and their states where these are wanted."""
        model = self.checkpoint.model
        capture = ("attention", "hidden") if hidden else ("attention",)

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            outputs = model.outputs(params, stream, batch, pairs=FIRST_PAIR, capture=capture)
            return {name: states.named(outputs[name], name) for name in capture}

        return Program(("attention", stream, hidden), self._single(stream), step)

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
        asked = self._asked(stream, text, image, questions.caption)

        names = self.checkpoint.tokenizer.pieces
        results = []
        for told in self._programs.run(self.embedding(stream), asked):
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
        asked = self._asked(stream, text, image, questions.caption)
        names = self.checkpoint.tokenizer.pieces
        results = []
        for told in self._programs.run(self.attending(stream, hidden), asked):
            tokens = told.batch["text_ids"][0][told.batch["text_mask"][0]]
            real = states.real_positions(self.trunk, told.batch)
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
