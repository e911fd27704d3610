"""A checkpoint with its trunk and heads, as functions of numpy batches."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import vl_models
from checkpoints import published_model, sources
from vl_models import heads, loading


class Model:
    """A trained model.

    Attributes:
      config: its model block, and what else is known of how it was trained.
      params: {"trunk": …, "heads": {name: …}}, float32.
      pieces: vocabulary by id, None where unknown.
      answers: answer list of the answer heads, None where unknown.
      facts: what it says of its data, such as the feature spec.
      heads: names of its heads.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        config: Mapping[str, Any],
        *,
        pieces: Sequence[str] | None = None,
        answers: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ):
        arrays = {path: np.asarray(array, np.float32) for path, array in arrays.items()}
        self.config, self.pieces, self.answers = ConfigDict(dict(config)), pieces, answers
        self.facts = dict(facts or {})
        self.params = loading.unflatten(arrays)
        self.heads = sorted(self.params.get("heads", {}))
        model = self.config.model
        self.trunk = vl_models.build_trunk(
            model,
            vl_models.TrunkSpec(
                vocab_size=arrays["trunk/embeddings/word/embedding"].shape[0],
                feature_dim=published_model.feature_dim(arrays),
                text_only="trunk/embeddings/text_visual" in arrays,
                masked_regions="trunk/embeddings/mask_token" in arrays,
                dtype=jnp.float32,
            ),
        )

    @functools.cached_property
    def _run(self):
        def run(params, batch, pairs, capture):
            length = batch["text_ids"].shape[-1]
            if "regions" in batch:
                length += batch["regions"].shape[2]
            options = dict(pairs=pairs, capture=capture)
            return self.trunk.apply(
                {"params": params}, batch, train=False, max_length=length, **options
            )

        return jax.jit(run, static_argnums=(2, 3))

    def __call__(
        self, batch: Mapping[str, np.ndarray], *, pairs=((0, 0),), capture: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The trunk's outputs.

        Args:
          batch: a stream batch as `input_pipeline.schema` describes.
          pairs: ((text, image), …) of each example.
          capture: "attention", "hidden".

        Returns:
          text [B·P, T, D], regions [B·P, R, Dv], pooled where the model has it, and what
          `capture` names; numpy arrays.
        """
        out = self._run(self.params["trunk"], dict(batch), tuple(pairs), tuple(capture))
        return jax.device_get(out)

    def head(self, name: str, *states: np.ndarray) -> np.ndarray:
        """Logits of a head: float32.

        Args:
          name: one of `heads`.
          states: what it reads; "masked_language" also takes the word table.

        Raises:
          ValueError: no such head; lists those there are.
        """
        if name not in self.heads:
            raise ValueError(f"no head {name!r} in this checkpoint, it has {self.heads}")
        params = self.params["heads"][name]
        return np.asarray(self._head(name, params).apply({"params": params}, *states))

    def _head(self, name: str, params):
        """The module of a head, told by its parameters."""
        sizes = self.trunk.region_sizes if name in _OF_REGIONS else self.trunk.sizes
        if name == "masked_language":
            return heads.MaskedLanguageHead(sizes)
        if "transform_direction" in params:
            width, outputs = (params[f"{n}_bias"].size for n in ("transform", "classifier"))
            return heads.WeightNormClassifier(sizes, outputs, width)
        outputs = params["classifier"]["bias"].size
        if "transform" not in params:
            return heads.Linear(sizes, outputs)
        norm = "norm" in params
        # Heads without norm are VL-BERT's: those of regions, and its "2fc".
        activation = "relu" if name in _OF_TEXTS and not norm else "gelu"
        width = params["transform"]["bias"].size
        return heads.Classifier(sizes, outputs, width, norm=norm, activation=activation)


# Heads that VL-BERT can have with two layers.
_OF_TEXTS = ("vqa", "gqa", "choice", "ranking")
# Heads on the states of regions, which are a stream of their own in ViLBERT.
_OF_REGIONS = ("masked_region", "grounding", "object_class")


def load(place: str, *, vocab: str = "") -> Model:
    """Opens a checkpoint: a run, a shared folder, a published file or a hub name.

    Args:
      place: see `checkpoints.sources.open_source`.
      vocab: vocab.txt of a published file that has none beside it.

    Raises:
      SourceError: nothing there, or no whole model (a BERT alone has no image side).
    """
    source = sources.open_source(place, vocab=vocab)
    config = dict(source.config) or {"model": published_model.block(source)}
    return Model(
        source.arrays, config, pieces=source.pieces, answers=source.answers, facts=source.facts
    )
