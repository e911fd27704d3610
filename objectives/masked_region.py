"""Masked regions: class distribution, feature regression, or contrast with other regions.

VL-BERT §3.3 (task 2, cross-entropy with the detector's soft labels), ViLBERT §3.2 (KL), 12-in-1's
release (regression and noise-contrastive targets).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped
from ml_collections import ConfigDict

from core.errors import ConfigError, DataError
from objectives import base, losses, masking
from vl_models import layers, operations
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk

WIDTHS = (16,)  # targets per image that the head is compiled for, beside all regions
GATHERED = (
    "region_weight", "region_class_ids", "region_class_probs", "region_rest_prob", "region_target",
)  # fmt: skip


class MaskedRegion(base.Objective):
    """Predicts classes or features of masked regions, most of which are hidden."""

    title = "masked regions whose class is predicted right"
    phase = base.Phase.MASK_REGIONS
    hides_regions = True

    def __init__(self, name: str, block: ConfigDict, data_info: base.DataInfo):
        super().__init__(name, block, data_info)
        self.microbatchable = block.target != "contrastive"  # its negatives are of the microbatch
        if (block.overlap == "released") != (block.image_row == "released"):
            raise ConfigError(
                f"{self.where}: overlap='released' only shows in "
                f"image_row='released'; set both or neither, found overlap={block.overlap!r}, "
                f"image_row={block.image_row!r}"
            )
        self.classes = block.target in ("cross_entropy", "kl")
        if self.classes and not data_info.num_classes:
            raise DataError(
                f"{self.name} needs the detector's class distributions",
                where="region store",
                expected="num_classes > 0 in its feature spec",
                found="0",
                fix="learn the features instead: "
                f"--{self.where}.target=regression" + f" --config.streams.{data_info.stream}."
                "order=stored"
                * (data_info.order == "confidence")
                + f"; or import a store with classes, or take {self.name} out of the objectives of "
                "the stream",
            )
        if data_info.pixels and not self.classes:
            raise ConfigError(
                f"{self.name} learns stored features, and this model makes its own of pictures",
                where=f"{self.where}.target",
                expected="'cross_entropy' or 'kl' with config.model.features='pixels'",
                found=repr(block.target),
                fix=f"--{self.where}.target=cross_entropy, or --config.model.features=store",
            )
        if block.image_row != "stored" and not (data_info.stored_mean or data_info.pixels):
            raise DataError(
                f"{self.name} hides regions from the whole-image row, which must be their mean",
                where="region store",
                expected="global_feature = mean in its feature spec",
                found="stored",
                fix="import the features with --global_feature=mean, or let the row show what is "
                f"hidden: {self.where}.image_row=stored",
            )

    def check_stream(self, stream: str, block: ConfigDict) -> None:
        super().check_stream(stream, block)
        if block.buckets and self.block.image_row == "released":
            raise ConfigError(
                f"config.streams.{stream}.buckets must be () with {self.where}."
                "image_row='released', whose mean counts the padding too"
            )

    def head(self, trunk: Trunk) -> HeadSpec:
        del trunk
        outputs = self.data_info.num_classes if self.classes else self.data_info.feature_dim
        return HeadSpec("classifier", "regions", dict(outputs=outputs, norm=self.block.head_norm))

    def head_positions(self, text: int, regions: int) -> int:
        del text
        # The contrastive loss compares regions of the whole batch, hidden or not.
        return masking.widths(WIDTHS, regions)[0] if self.microbatchable else regions

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """Adds region_masked bool [B, M, R] and region_weight [B, M, R]; recomputes row 0."""
        shape = batch["region_mask"].shape[1:]
        real = batch["region_mask"] & (jnp.arange(shape[-1]) > 0)  # the whole image never
        selected = real & (self.draw(keys, "which regions", shape) < self.block.rate)
        kept = self.draw(keys, "hide or keep", shape) < self.block.keep
        hidden = selected & ~kept
        marked = jnp.zeros_like(hidden)
        if self.block.overlap != "none":
            near = masking.overlaps(batch["boxes"], batch["region_mask"], self.block.iou)
            if self.block.overlap == "paper":  # what covers a hidden region is hidden with it
                hidden |= (near & hidden[..., None, :]).any(-1)
            else:  # the released code counts them, but leaves them visible
                marked = (near & selected[..., None, :]).any(-1)
        # The originals mask before they cut regions, so that a cut region may be missing from the
        # mean; here only regions of the row are masked.
        out = dict(
            batch,
            region_masked=hidden,
            region_weight=selected * masking.example_weight(batch)[:, None, None],
        )
        if not self.data_info.pixels:  # else the whole image is of the picture, with its holes
            out["regions"] = masking.whole_image_row(
                batch["regions"], hidden, batch["num_detected"], marked, self.block.image_row
            )
        if not self.classes:
            out["region_target"] = batch["regions"]  # before masking
        if self.block.target == "contrastive":
            count = (*shape, self._elsewhere() + self._same())
            out["negative_image"] = self.draw(keys, "negatives' images", count)
            out["negative_region"] = self.draw(keys, "negatives' regions", count)
        return out

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return losses.denominator(_rows(batch["region_weight"]), self.block.normalize)

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "N R C"]:
        return head(outputs["regions"])

    def loss(self, logits: Float[Array, "N R C"], batch: base.Arrays) -> base.Scalar:
        values = getattr(self, f"_{self.block.target}")(logits, batch)
        return losses.numerator(values, _rows(batch["region_weight"]), self.block.normalize)

    def measure(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> tuple[base.Scalar, dict[str, base.Pair]]:
        """As the base class, over no more regions of each image than the fullest needs."""
        if not self.microbatchable:  # regions of the whole batch are compared
            return super().measure(head, outputs, batch)
        weight = batch["region_weight"]
        order = jnp.argsort(weight == 0, axis=-1, stable=True)

        def at(width: int) -> tuple[base.Scalar, dict[str, base.Pair]]:
            if width == order.shape[-1]:
                return super(MaskedRegion, self).measure(head, outputs, batch)
            first = order[..., :width]
            cut = {
                key: jnp.take_along_axis(
                    batch[key], first.reshape(*first.shape, *[1] * (batch[key].ndim - 3)), axis=2
                )
                for key in GATHERED
                if key in batch
            }
            states = layers.gather_rows(outputs["regions"], _rows(first))
            return super(MaskedRegion, self).measure(
                head, {**outputs, "regions": states}, {**batch, **cut}
            )

        known = masking.widths(WIDTHS, weight.shape[-1])
        return masking.at_narrowest(at, (weight > 0).sum(-1), known)

    def shares(self) -> dict[str, str]:
        return {self.metric("accuracy", "mvrc"): self.title} if self.classes else {}

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """The most frequent class."""
        if not self.classes:
            return {}
        weights = _rows(batch["region_weight"])
        best = _rows(batch["region_class_ids"], 2)[..., 0]  # largest first
        counts = losses.counts(best, weights, self.data_info.num_classes)
        return {self.metric("accuracy", "mvrc"): (counts, weights.sum())}

    def metrics(self, logits: Float[Array, "N R C"], batch: base.Arrays) -> dict[str, base.Pair]:
        weights = _rows(batch["region_weight"])
        if self.classes:
            best = _rows(batch["region_class_ids"], 2)[..., 0]  # largest first
            right = losses.is_best(logits, best)
            return {self.metric("accuracy", "mvrc"): ((right * weights).sum(), weights.sum())}
        target = _rows(batch["region_target"], 2).astype(jnp.float32)
        cosine = (logits * target).sum(-1) / jnp.maximum(
            jnp.linalg.norm(logits, axis=-1) * jnp.linalg.norm(target, axis=-1), 1e-6
        )
        return {self.metric("cosine", "region"): ((cosine * weights).sum(), weights.sum())}

    def _cross_entropy(
        self, logits: Float[Array, "N R C"], batch: base.Arrays
    ) -> Float[Array, "N R"]:
        return losses.soft_cross_entropy(
            logits,
            _rows(batch["region_class_ids"], 2),
            _rows(batch["region_class_probs"], 2),
            _rows(batch["region_rest_prob"]),
        )

    def _kl(self, logits: Float[Array, "N R C"], batch: base.Arrays) -> Float[Array, "N R"]:
        entropy = losses.soft_entropy(
            _rows(batch["region_class_probs"], 2), _rows(batch["region_rest_prob"])
        )
        return self._cross_entropy(logits, batch) - entropy

    def _regression(self, logits: Float[Array, "N R C"], batch: base.Arrays) -> Float[Array, "N R"]:
        """Mean squared error over the feature's dimensions."""
        target = _rows(batch["region_target"], 2).astype(jnp.float32)
        return jnp.square(logits - target).mean(-1)

    def _elsewhere(self) -> int:
        return int(self.block.elsewhere * self.block.negatives)

    def _same(self) -> int:
        return int((1 - self.block.elsewhere) * self.block.negatives + 1e-6)

    def _contrastive(
        self, logits: Float[Array, "N R C"], batch: base.Arrays
    ) -> Float[Array, "N R"]:
        """The region's own feature against those of other regions, dot products, no temperature.

        Negatives come from the batch, in evaluation too, so this loss alone depends on its size:
        `elsewhere` of them from other images, the rest from the same one.
        """
        features = _rows(batch["region_target"], 2)[:, 1:]
        mask = _rows(batch["region_mask"])[:, 1:]
        rows, slots, _ = features.shape
        scores = operations.product("nrf,msf->nrms", logits[:, 1:].astype(features.dtype), features)
        own = jnp.arange(rows)[:, None, None]
        region = jnp.arange(slots)[None, :, None]
        u = _rows(batch["negative_image"], 2)[:, 1:]
        v = _rows(batch["negative_region"], 2)[:, 1:]
        split = self._elsewhere()
        other = (own + 1 + jnp.floor(u * (rows - 1)).astype(jnp.int32)) % rows
        image = jnp.where(jnp.arange(u.shape[-1]) < split, other, own)
        anywhere = jnp.floor(v * slots).astype(jnp.int32)
        beside = (region + 1 + jnp.floor(v * (slots - 1)).astype(jnp.int32)) % slots
        slot = jnp.where(jnp.arange(u.shape[-1]) < split, anywhere, beside)
        flat = scores.reshape(rows, slots, rows * slots)
        negative = jnp.take_along_axis(flat, image * slots + slot, axis=-1)
        # Padded regions, rows that pad the batch and the image itself under another caption are no
        # negatives.
        key = _rows(batch["image_key"][..., None])[:, 0]
        weight = jnp.repeat(batch["_weight"], rows // len(batch["_weight"]))
        fair = mask.reshape(-1)[image * slots + slot] & (weight[image] > 0)
        fair &= (key[image] != key[own]) | (image == own) & (slot != region)
        negative = jnp.where(fair, negative, -jnp.inf)
        positive = jnp.take_along_axis(flat, own * slots + region, axis=-1)
        everything = jnp.concatenate([positive, negative], axis=-1)
        loss = jax.nn.logsumexp(everything, axis=-1) - positive[..., 0]
        return jnp.pad(loss, ((0, 0), (1, 0)))  # the whole image is never a target


def _rows(x: Shaped[Array, "B M ..."], trailing: int = 1) -> Shaped[Array, "N ..."]:
    """[B, M, …] → [B·M, …] with `trailing` axes after M."""
    return x.reshape(-1, *x.shape[-trailing:])
