"""Training a two-stage detector: proposals and regions against the objects of a picture.

Faster R-CNN (Ren et al. 2015): anchors and proposals are matched with objects by their overlap, a
fixed number of them is sampled, and classes and box deltas of these are learned. What is sampled is
a function of a picture's key alone: the same whatever shares its batch, on every mesh.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int, Key, PyTree

from vl_models.vision import boxes as box_ops
from vl_models.vision import faster_rcnn, resnet
from vl_models.vision.faster_rcnn import REGION_WEIGHTS, DetectorSizes, FasterRCNN, Selection

STREAM = "pictures"
LOSSES = ("anchors", "anchor_boxes", "classes", "boxes", "attributes")
# Of pixels minus their mean: what the stem's norm divides by where no trained one does.
PIXEL_VARIANCE = 2 * 100.0**2


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What is learned from a picture.

    Attributes:
      anchors: that are sampled, `anchor_share` of them objects at most.
      anchor_overlaps: below the first an anchor is background, from the second on an object.
      regions: that are sampled of the proposals and the objects, `region_share` of them objects.
      region_overlap: from which on a region is an object, below it background.
      proposals: how regions are proposed.
      attribute_scale: of the attributes' loss.
    """

    anchors: int = 256
    anchor_share: float = 0.5
    anchor_overlaps: tuple[float, float] = (0.3, 0.7)
    regions: int = 64
    region_share: float = 0.5
    region_overlap: float = 0.5
    proposals: Selection = Selection(candidates=2000, proposals=300)  # noqa: RUF009 frozen
    attribute_scale: float = 0.5


def match(
    boxes: Float[Array, "N 4"],
    objects: Float[Array, "G 4"],
    present: Bool[Array, " G"],
    low: float,
    high: float,
    best_too: bool,
) -> tuple[Int[Array, " N"], Int[Array, " N"]]:
    """What each box is to be.

    Args:
      boxes: anchors or regions.
      objects, present: of the picture; rows that are not present are padding.
      low, high: overlaps, see `Sampling`.
      best_too: whether the boxes that overlap an object most are objects whatever their overlap.

    Returns:
      (1 object, 0 background, -1 neither; number of the object that a box overlaps most).
    """
    found = jnp.where(present, box_ops.overlaps(boxes, objects), -1.0)
    index = found.argmax(1)
    most = jnp.maximum(found.max(1), 0)
    label = jnp.where(most >= high, 1, jnp.where(most < low, 0, -1))
    if best_too:
        best = found.max(0)
        is_best = (found == best) & (best > 0) & present
        label = jnp.where(is_best.any(1), 1, label)
    return label, index


def sample(
    key: Key[Array, ""], label: Int[Array, " N"], count: int, share: float
) -> Bool[Array, " N"]:
    """Chooses `count` boxes at random, or as many as there are: at most `share` of them objects."""
    noise = jax.random.uniform(key, label.shape)

    def first(mask: Array, number: Array | int) -> Array:
        rank = jnp.argsort(jnp.argsort(jnp.where(mask, noise, 2.0)))
        return mask & (rank < number)

    objects = first(label == 1, int(count * share))
    return objects | first(label == 0, count - objects.sum())


def _mean(values: Array, mask: Array) -> Array:
    return jnp.where(mask, values, 0).sum() / jnp.maximum(mask.sum(), 1)


def anchor_losses(
    scores: Float[Array, " N"],
    deltas: Float[Array, "N 4"],
    anchors: Float[Array, "N 4"],
    objects: Float[Array, "G 4"],
    present: Bool[Array, " G"],
    key: Key[Array, ""],
    sampling: Sampling,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy of sampled anchors' scores, and absolute error of the objects' deltas; both
    over the number of anchors sampled.
    """
    label, index = match(anchors, objects, present, *sampling.anchor_overlaps, best_too=True)
    chosen = sample(key, label, sampling.anchors, sampling.anchor_share)
    score_loss = _mean(jax.nn.softplus(scores) - scores * (label == 1), chosen)
    is_object = chosen & (label == 1)
    # Padding is matched by nothing: any box stands for it.
    targets = jnp.where(is_object[:, None], objects[index], anchors)
    error = jnp.abs(deltas - box_ops.encode(targets, anchors)).sum(-1)
    box_loss = jnp.where(is_object, error, 0).sum() / jnp.maximum(chosen.sum(), 1)
    return score_loss, box_loss


def sampled_regions(
    proposals: Float[Array, "P 4"],
    valid: Bool[Array, " P"],
    objects: Float[Array, "G 4"],
    present: Bool[Array, " G"],
    key: Key[Array, ""],
    sampling: Sampling,
) -> tuple[Float[Array, "n 4"], Int[Array, " n"], Int[Array, " n"]]:
    """Regions to learn from, of the proposals and the objects themselves: n = sampling.regions.

    Returns:
      (boxes; 1 object, 0 background, -1 fewer could be found; number of the object).
    """
    boxes = jnp.concatenate([proposals, objects])
    there = jnp.concatenate([valid, present])
    overlap = sampling.region_overlap
    label, index = match(boxes, objects, present, overlap, overlap, best_too=False)
    label = jnp.where(there, label, -1)
    chosen = sample(key, label, sampling.regions, sampling.region_share)
    kept, rows = jax.lax.top_k(chosen.astype(jnp.int32), min(sampling.regions, len(boxes)))
    return boxes[rows], jnp.where(kept > 0, label[rows], -1), index[rows]


def region_losses(
    predicted: Mapping[str, Array],
    boxes: Float[Array, "n 4"],
    label: Int[Array, " n"],
    objects: Float[Array, "n 4"],
    classes: Int[Array, " n"],
    attributes: Int[Array, " n"],
) -> dict[str, Float[Array, ""]]:
    """Losses of sampled regions.

    Args:
      predicted: of `FasterRCNN.predict`.
      boxes, label: of `sampled_regions`.
      objects, classes, attributes: of each region's object; attributes of -1 are not known.
    """
    used, is_object = label >= 0, label == 1
    logits = predicted["class_logits"]
    background = logits.shape[-1] - 1
    target = jnp.where(is_object, classes, background)
    cross_entropy = -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1)[:, 0]
    own = jnp.take_along_axis(predicted["deltas"], classes[:, None, None], axis=1)[:, 0]
    sides = jnp.where(is_object[:, None], boxes, jnp.float32([0, 0, 1, 1]))
    goal = jnp.where(is_object[:, None], objects, sides)
    error = jnp.abs(own - box_ops.encode(goal, sides, REGION_WEIGHTS)).sum(-1)
    out = {
        "classes": _mean(cross_entropy, used),
        "boxes": jnp.where(is_object, error, 0).sum() / jnp.maximum(used.sum(), 1),
    }
    if "attribute_logits" in predicted:
        told = is_object & (attributes >= 0)
        logs = jax.nn.log_softmax(predicted["attribute_logits"])
        picked = jnp.take_along_axis(logs, jnp.maximum(attributes, 0)[:, None], 1)[:, 0]
        out["attributes"] = _mean(-picked, told)
    return out


class DetectorTask:
    """A detector as the training loop trains it (`training.state.Model`): one stream, STREAM.

    Its batch: `images` uint8 [B, H, W, 3] RGB padded right and below, `sizes` [B, 2] float32 height
    and width of each, `boxes` [B, G, 4], `classes` and `attributes` int32 [B, G], `present` bool
    [B, G], `_weight` [B].

    Attributes:
      model: the detector.
      loss_scale: of each loss in the total.
      fixed: regexes of the parameters that do not train.
    """

    separable = False  # not tried by rows of each device alone
    # What a model of texts and regions has beside these: heads, and values of others' for them.
    warm_start: Mapping[str, Any] = {}
    head_specs: Mapping[str, Any] = {}

    def __init__(self, sizes: DetectorSizes, sampling: Sampling, mean: tuple[float, float, float]):
        """mean: of blue, green and red."""
        self.model, self.sampling = FasterRCNN(sizes), sampling
        self._mean = mean
        names = LOSSES if sizes.attributes else LOSSES[:-1]
        scales = {"attributes": sampling.attribute_scale}
        self.loss_scale = {f"{STREAM}/{name}": scales.get(name, 1.0) for name in names}
        self.fixed = resnet.fixed(sizes.resnet, "backbone", "head")

    @property
    def dtype(self) -> DTypeLike:
        """Of matrix products."""
        return self.model.sizes.resnet.dtype

    def initial_values(self, arrays: Any, known: Any) -> dict[str, Any]:
        """None: no head's values come from tables."""
        del arrays, known
        return {}

    def heads_of(self, stream: str) -> tuple[str, ...]:
        """None: its parts are no heads of a trunk."""
        del stream
        return ()

    def init(self, rng: Key[Array, ""], batch: Mapping[str, Any]) -> PyTree:
        """Parameters to train from nothing: the stem is given the variance of pixels."""
        del batch
        params = faster_rcnn.initial_parameters(self.model.sizes, rng)["params"]
        stem = params["backbone"]["stem"]
        stem["variance"] = jnp.full_like(stem["variance"], PIXEL_VARIANCE)
        return params

    def corrupt(
        self, stream: str, batch: Mapping[str, Array], keys: Key[Array, " B"]
    ) -> dict[str, Array]:
        """Adds the keys of the sampling."""
        del stream
        return dict(batch, keys=jax.random.key_data(keys))

    def weights(self, stream: str, batch: Mapping[str, Array]) -> dict[str, Float[Array, ""]]:
        """Pictures, of each loss."""
        del stream
        return dict.fromkeys(self.loss_scale, batch["_weight"].sum())

    def images(self, batch: Mapping[str, Array]) -> Float[Array, "B H W 3"]:
        """BGR minus the mean, zero around each picture."""
        values = batch["images"][..., ::-1].astype(jnp.float32) - jnp.float32(self._mean)
        return resnet.blanked(values, batch["sizes"].astype(jnp.int32))

    def sums(
        self,
        params: PyTree,
        stream: str,
        batch: Mapping[str, Array],
        *,
        train: bool,
        dropout_rng: Key[Array, ""] | None = None,
    ) -> tuple[dict[str, Float[Array, ""]], dict[str, tuple[Array, Array]]]:
        """Sums of losses and metrics over a batch that `corrupt` has been through."""
        del train, dropout_rng
        variables = {"params": params}
        extents = batch["sizes"].astype(jnp.int32)
        c4 = faster_rcnn.stage(self.model, variables, "c4", self.images(batch), extents)
        rows = {k: batch[k] for k in ("sizes", "boxes", "classes", "attributes", "present", "keys")}
        losses, metrics = self._pictures(variables, c4, rows)
        weight = batch["_weight"]
        sums = {f"{STREAM}/{name}": (value * weight).sum() for name, value in losses.items()}
        pairs = {
            f"{STREAM}/{name}": ((value * weight).sum(), (count * weight).sum())
            for name, (value, count) in metrics.items()
        }
        return sums, pairs

    def _pictures(
        self, variables: PyTree, c4: Any, rows: Mapping[str, Array]
    ) -> tuple[dict[str, Array], dict[str, tuple[Array, Array]]]:
        """Losses [B] and metrics {name: (sum [B], count [B])} of pictures by their feature maps."""
        model, sampling = self.model, self.sampling
        scores, deltas = faster_rcnn.stage(model, variables, "propose", c4)
        anchors = jnp.asarray(model.sizes.anchors(*c4.shape[1:3]))
        keys = jax.vmap(lambda data: jax.random.split(jax.random.wrap_key_data(data)))(rows["keys"])

        def first(scores: Array, deltas: Array, row: Mapping[str, Array], key: Array) -> Any:
            losses = anchor_losses(
                scores, deltas, anchors, row["boxes"], row["present"], key[0], sampling
            )
            proposals, _, valid = faster_rcnn.select_proposals(
                *jax.lax.stop_gradient((scores, deltas)), anchors, row["sizes"], sampling.proposals
            )
            found = sampled_regions(
                proposals, valid, row["boxes"], row["present"], key[1], sampling
            )
            return losses, found

        (score_loss, box_loss), (boxes, label, index) = jax.vmap(first)(scores, deltas, rows, keys)
        pool = jax.vmap(lambda c4, b: faster_rcnn.pooled(model, c4, b))
        cells = pool(c4, boxes)
        features = faster_rcnn.stage(
            model, variables, "describe", cells.reshape(-1, *cells.shape[2:])
        )
        own = {
            k: jnp.take_along_axis(
                rows[k], index.reshape(index.shape + (1,) * (rows[k].ndim - 2)), 1
            )
            for k in ("boxes", "classes", "attributes")
        }
        # The attribute head is told the true class, where there is one.
        background = jnp.full_like(own["classes"], model.sizes.classes)
        told = jnp.where(label == 1, own["classes"], background)
        features = features.reshape(*boxes.shape[:2], -1)
        predicted = faster_rcnn.stage(model, variables, "predict", features, told)
        losses = jax.vmap(region_losses)(
            predicted, boxes, label, own["boxes"], own["classes"], own["attributes"]
        )
        right = predicted["class_logits"].argmax(-1) == own["classes"]
        is_object = label == 1
        metrics = {"object_accuracy": ((right & is_object).sum(1), is_object.sum(1))}
        return dict(losses, anchors=score_loss, anchor_boxes=box_loss), metrics

    def total(
        self, sums: Mapping[str, Float[Array, ""]], weights: Mapping[str, Float[Array, ""]]
    ) -> Float[Array, ""]:
        """The loss: every mean over pictures, times its scale."""
        parts = [
            self.loss_scale[name] * value / jnp.maximum(weights[name], 1)
            for name, value in sums.items()
        ]
        return jnp.sum(jnp.stack(parts))
