"""A checkpoint with its trunk and heads, as functions of numpy batches."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vl_models
from checkpoints import published_model, run_config, sources
from core.errors import DataError
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.schema import SpecialIds
from objectives import base, instances
from vl_models import loading
from vl_models.heads import HeadSpec
from vl_models.published import heads as published_heads
from vl_models.published import translate


class Model:
    """A trained model.

    Attributes:
      config: its model block, and what else is known of how it was trained.
      params: {"trunk": …, "heads": {name: …}}, float32.
      pieces: vocabulary by id, None where unknown.
      answers: answer list of the answer heads, None where unknown.
      data_metadata: what it says of its data, such as the feature spec.
      heads: names of its heads.
      head_specs: {head: how it is built and what its outputs are called}.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        config: Mapping[str, Any],
        *,
        pieces: Sequence[str] | None = None,
        answers: Sequence[str] | None = None,
        data_metadata: Mapping[str, Any] | None = None,
        heads: Mapping[str, HeadSpec] | None = None,
    ):
        """Builds the trunk by its arrays and the heads by their specs.

        Args:
          arrays: {our path: array}.
          config: see `config`; a run's whole config rebuilds heads that `heads` does not say.
          pieces, answers, data_metadata: see above.
          heads: {head: how it is built}; empty for runs and folders of earlier versions,
            whose heads are rebuilt from their config or, without one, as the published model's.

        Raises:
          SourceError: a head that nothing says how to build.
        """
        arrays = {path: np.asarray(array, np.float32) for path, array in arrays.items()}
        self.config, self.pieces, self.answers = run_config.restored(config), pieces, answers
        self.data_metadata = dict(data_metadata or {})
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
        self.head_specs = dict(heads or self._heads_of_before(arrays))
        unknown = sorted(set(self.heads) - set(self.head_specs))
        if unknown:
            raise sources.SourceError(
                f"nothing says how the heads {unknown} are built: expected them in the "
                f"checkpoint's heads, which has {sorted(self.head_specs)}"
            )
        self._modules = {name: self.head_specs[name].build(self.trunk) for name in self.heads}

    def _heads_of_before(self, arrays) -> dict[str, HeadSpec]:
        """The heads of a run or folder that was saved before these said how theirs are built."""
        if not self.heads:
            return {}
        if "objectives" not in self.config:  # a folder made from a published file
            kind = translate.kind_for(self.config.model.name, arrays)
            return published_heads.specs(kind, arrays)
        spec = self.data_metadata["feature_spec"]
        return instances.saved_heads(
            self.config.to_dict(),
            self.trunk,
            SpecialIds(**self.data_metadata["special"]),
            FeatureSpec.from_dict(spec, "the checkpoint's data metadata"),
            base.OutputLists(
                answers=self.answers or (), labels=self.data_metadata.get("labels", ())
            ),
        )

    @functools.cached_property
    def _apply(self):
        def run(params, batch, pairs, capture):
            length = batch["text_ids"].shape[-1]
            if "boxes" in batch:
                length += batch["boxes"].shape[2]
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

        Raises:
          DataError: a model that sees pixels, and a batch of stored features.

        Returns:
          text [B·P, T, D], regions [B·P, R, Dv], pooled where the model has it, and what
          `capture` names; numpy arrays.
        """
        if getattr(self.trunk, "vision_sizes", None) and "regions" in batch:
            raise DataError(
                "this model makes its features of pictures, and was given those of a store",
                expected="`images` and boxes of these pictures, see input_pipeline.schema",
                found="`regions`",
                fix="predict with the stream that it was trained on: main.py --mode=predict",
            )
        out = self._apply(self.params["trunk"], dict(batch), tuple(pairs), tuple(capture))
        return jax.device_get(out)

    def head(self, name: str, *states: np.ndarray) -> np.ndarray:
        """Logits of a head: float32.

        Args:
          name: one of `heads`.
          states: what it reads (`HeadSpec.reads`); a tied one also takes the word table.

        Raises:
          ValueError: no such head; lists those there are.
        """
        if name not in self.heads:
            raise ValueError(f"no head {name!r} in this checkpoint, it has {self.heads}")
        params = self.params["heads"][name]
        return np.asarray(self._modules[name].apply({"params": params}, *map(jnp.asarray, states)))
