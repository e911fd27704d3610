"""Faster R-CNN (Ren et al. 2015) as the bottom-up-attention features are made with it (Anderson et
al. 2018): ResNet-101 to C4, region proposals, RoIPool, a dilated C5, class-wise boxes, attributes.

The module has a method for each stage; `detect` is the way from pixels to a fixed number of boxes.
Pictures of a batch are padded to one size, and all shapes are fixed: what is no box is masked.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from vl_models.vision import boxes as box_ops
from vl_models.vision.nms import nms
from vl_models.vision.resnet import (
    STRIDE,
    Backbone,
    RegionHead,
    ResNetSizes,
    blanked,
    c4_extents,
)
from vl_models.vision.roi_pool import roi_pool

REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the second stage's deltas, see `boxes.decode`


@dataclasses.dataclass(frozen=True)
class DetectorSizes:
    """What tells one detector from another.

    Attributes:
      resnet: of the convolutional network.
      classes: kinds of objects; the background is one more, the last.
      attributes: kinds of attributes, "none of them" is one more, the last; 0: no such head.
      hidden: channels of the region proposal network.
      anchor_sizes: sides in pixels of the squares that have the anchors' areas.
      anchor_ratios: height / width of anchors.
      bins: cells along each side of a pooled region.
    """

    resnet: ResNetSizes = ResNetSizes(max_pool="caffe")  # noqa: RUF009 frozen
    classes: int = 1600
    attributes: int = 400
    hidden: int = 512
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    bins: int = 14

    @property
    def cell_anchors(self) -> np.ndarray:
        """float32 [A, 4] anchors of a cell, see `boxes.cell_anchors`."""
        return box_ops.cell_anchors(self.anchor_sizes, self.anchor_ratios)

    def anchors(self, rows: int, columns: int) -> np.ndarray:
        """float32 [rows * columns * A, 4] of a map."""
        return box_ops.grid_anchors(self.cell_anchors, rows, columns, STRIDE)


@dataclasses.dataclass(frozen=True)
class Selection:
    """How many proposals and boxes come out, and by which overlaps.

    Attributes:
      candidates: proposals of the highest scores that go into suppression.
      proposals: most that come out of it.
      proposal_overlap: above which the proposal of the lower score is dropped.
      overlaps: the same of boxes: the first of them that leaves `least` boxes is taken, else the
        last.
      least, most: boxes of a picture; a fixed number where they are the same.
      score: boxes below it are left out, unless they are among the `least` best ones. The original
        has 0.2; the code published for PyTorch goes by overlaps alone: 0.
    """

    candidates: int = 6000
    proposals: int = 300
    proposal_overlap: float = 0.7
    overlaps: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    least: int = 10
    most: int = 100
    score: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= self.proposals or not self.overlaps:
            raise ValueError(
                "boxes of a picture must be 1 <= least <= most <= proposals, by one overlap or "
                f"more, found {self}"
            )


class ProposalNetwork(nn.Module):
    """Scores and deltas of every anchor.

    Attributes:
      sizes: of the detector.
    """

    sizes: DetectorSizes

    @nn.compact
    def __call__(
        self, c4: Float[Array, "B H W C"]
    ) -> tuple[Float[Array, "B anchors"], Float[Array, "B anchors 4"]]:
        number = len(self.sizes.cell_anchors)

        def conv(name: str, features: int, side: int) -> nn.Conv:
            return nn.Conv(
                features,
                (side, side),
                dtype=self.sizes.resnet.dtype,
                kernel_init=nn.initializers.normal(0.01),
                name=name,
            )

        x = nn.relu(conv("conv", self.sizes.hidden, 3)(c4))
        scores = conv("objectness", number, 1)(x).astype(jnp.float32)
        deltas = conv("deltas", 4 * number, 1)(x).astype(jnp.float32)
        return scores.reshape(len(c4), -1), deltas.reshape(len(c4), -1, 4)


class Predictor(nn.Module):
    """Classes, attributes and boxes of pooled regions, all float32.

    Attributes:
      sizes: of the detector.
    """

    sizes: DetectorSizes

    @nn.compact
    def __call__(
        self, features: Float[Array, "*rows F"], classes: Int[Array, "*rows"] | None = None
    ) -> dict[str, Array]:
        """Classes, boxes and attributes.

        Args:
          features: of regions.
          classes: that the attribute head is told, in training; None: the most probable ones.

        Returns:
          `class_logits` [..., classes + 1], `deltas` [..., classes, 4] and, with attributes,
          `attribute_logits` [..., attributes + 1].
        """
        sizes, width = self.sizes, features.shape[-1]

        def dense(name: str, outputs: int, deviation: float = 0.01) -> nn.Dense:
            return nn.Dense(outputs, kernel_init=nn.initializers.normal(deviation), name=name)

        logits = dense("classes", sizes.classes + 1)(features)
        deltas = dense("boxes", 4 * sizes.classes, 0.001)(features)
        out = dict(class_logits=logits, deltas=deltas.reshape(*deltas.shape[:-1], sizes.classes, 4))
        if sizes.attributes:
            classes = logits.argmax(-1) if classes is None else classes
            table = nn.Embed(sizes.classes + 1, width // 8, name="class_embedding")
            x = jnp.concatenate([features, table(classes)], axis=-1)
            x = nn.relu(dense("attribute_hidden", width // 4)(x))
            out["attribute_logits"] = dense("attributes", sizes.attributes + 1)(x)
        return out


class FasterRCNN(nn.Module):
    """The parameters, and a method for each stage that has some.

    Attributes:
      sizes: of the detector.
    """

    sizes: DetectorSizes

    def setup(self) -> None:
        self.backbone = Backbone(self.sizes.resnet)
        self.proposals = ProposalNetwork(self.sizes)
        self.head = RegionHead(self.sizes.resnet)
        self.predictor = Predictor(self.sizes)

    def c4(
        self, images: Float[Array, "B H W 3"], sizes: Int[Array, "B 2"] | None = None
    ) -> Float[Array, "B h w C"]:
        """Feature maps of pictures, BGR minus the mean; `sizes` as of `Backbone`."""
        return self.backbone(images, sizes)

    def propose(
        self, c4: Float[Array, "B H W C"]
    ) -> tuple[Float[Array, "B anchors"], Float[Array, "B anchors 4"]]:
        """Scores and deltas of anchors, in the order of `DetectorSizes.anchors`."""
        return self.proposals(c4)

    def describe(self, cells: Float[Array, "N bins bins C"]) -> Float[Array, "N F"]:
        """Features of pooled regions: the mean of their C5."""
        return self.head(cells).astype(jnp.float32).mean((1, 2))

    def predict(
        self, features: Float[Array, "*rows F"], classes: Int[Array, "*rows"] | None = None
    ) -> dict[str, Array]:
        """See `Predictor`."""
        return self.predictor(features, classes)

    def __call__(self, images: Float[Array, "B H W 3"]) -> dict[str, Array]:
        """Every stage once, on a region as large as the map: for the shapes of the parameters."""
        c4 = self.c4(images)
        self.propose(c4)
        side = (len(c4), self.sizes.bins, self.sizes.bins, c4.shape[-1])
        return self.predict(self.describe(jax.image.resize(c4, side, "nearest")))


def initial_parameters(sizes: DetectorSizes, key: Array) -> dict[str, Any]:
    """{"params": ...} of random values."""
    picture = jnp.zeros((1, 2 * STRIDE, 2 * STRIDE, 3))
    return dict(jax.jit(FasterRCNN(sizes).init)(key, picture))


def select_proposals(
    scores: Float[Array, " anchors"],
    deltas: Float[Array, "anchors 4"],
    anchors: Float[Array, "anchors 4"],
    size: Float[Array, "2"],
    selection: Selection,
) -> tuple[Float[Array, "P 4"], Float[Array, " P"], Bool[Array, " P"]]:
    """One picture's proposals by falling score.

    Args:
      scores, deltas: of `FasterRCNN.propose`; anchors of score -inf make no proposals.
      anchors: of `DetectorSizes.anchors`.
      size: height and width of the picture in the padded one.
      selection: see there.

    Returns:
      Boxes cut off at the picture's borders, their scores, and which entries are any.
    """
    best, index = jax.lax.top_k(scores, min(selection.candidates, len(scores)))
    boxes = box_ops.clip(box_ops.decode(deltas[index], anchors[index]), size)
    takes_part = box_ops.nonempty(boxes) & (best > -jnp.inf)
    index, kept = nms(boxes, best, selection.proposal_overlap, selection.proposals, takes_part)
    return jnp.where(kept[:, None], boxes[index], 0), best[index], kept


def select_boxes(
    predicted: Mapping[str, Array],
    features: Float[Array, "P F"],
    proposals: Float[Array, "P 4"],
    valid: Bool[Array, " P"],
    size: Float[Array, "2"],
    selection: Selection,
) -> dict[str, Array]:
    """One picture's boxes by falling score of their class, n = selection.most of them.

    Every proposal stands for its most probable object alone, with the box of that class; boxes of
    different objects suppress each other, too.

    Args:
      predicted: of `FasterRCNN.predict`.
      features: of the proposals.
      proposals, valid: of `select_proposals`.
      size: height and width of the picture in the padded one.
      selection: see there.

    Returns:
      `valid` [n], whether an entry is a box; `boxes` [n, 4], `features` [n, F], `class_probs`
      [n, classes + 1], `class_ids` and `class_scores` [n] of the most probable object and, with
      attributes, `attribute_probs` [n, attributes] (given that it has one).
    """
    probs = jax.nn.softmax(predicted["class_logits"], axis=-1)
    classes = probs[:, :-1].argmax(-1)
    scores = probs[:, :-1].max(-1)
    deltas = jnp.take_along_axis(predicted["deltas"], classes[:, None, None], axis=1)[:, 0]
    boxes = box_ops.clip(box_ops.decode(deltas, proposals, REGION_WEIGHTS), size)
    index, kept = nms(boxes, scores, selection.overlaps[0], selection.most, valid)
    for overlap in selection.overlaps[1:]:
        enough = kept.sum() >= selection.least
        again = nms(boxes, scores, overlap, selection.most, valid & ~enough)
        index, kept = jnp.where(enough, index, again[0]), jnp.where(enough, kept, again[1])
    # They stand by falling score: those that are sure enough are the first ones.
    kept &= (scores[index] >= selection.score) | (jnp.arange(len(kept)) < selection.least)
    found = dict(
        boxes=boxes[index],
        features=features[index],
        class_probs=probs[index],
        class_ids=classes[index],
        class_scores=scores[index],
    )
    if "attribute_logits" in predicted:
        logits = predicted["attribute_logits"][:, :-1]
        found["attribute_probs"] = jax.nn.softmax(logits, axis=-1)[index]
    masked = {name: jnp.where(_wide(kept, x), x, 0) for name, x in found.items()}
    return dict(masked, valid=kept)


def _wide(mask: Array, like: Array) -> Array:
    return mask.reshape(-1, *[1] * (like.ndim - 1))


def pooled(
    model: FasterRCNN, c4: Float[Array, "H W C"], boxes: Float[Array, "P 4"]
) -> Float[Array, "P bins bins C"]:
    """One picture's boxes, cut out of its feature map."""
    return roi_pool(c4, boxes, model.sizes.bins, 1 / STRIDE)


def describe_regions(
    model: FasterRCNN,
    params: Mapping[str, Any],
    c4: Float[Array, "H W C"],
    boxes: Float[Array, "P 4"],
    at_once: int,
) -> Float[Array, "P F"]:
    """Features of one picture's boxes, `at_once` of them in memory at a time."""
    cells = pooled(model, c4, boxes)
    describe = lambda one: model.apply(params, one[None], method="describe")[0]  # noqa: E731
    return jax.lax.map(describe, cells, batch_size=at_once)


def stage(model: FasterRCNN, params: Mapping[str, Any], method: str, *inputs: Array | None) -> Any:
    """One of the model's methods, by name, on arrays."""
    return model.apply(params, *inputs, method=method)


def detect(
    model: FasterRCNN,
    params: Mapping[str, Any],
    images: Float[Array, "B H W 3"],
    sizes: Float[Array, "B 2"],
    selection: Selection,
    at_once: int = 100,
    padding: str = "outside",
) -> dict[str, Array]:
    """From pixels to boxes.

    Args:
      model: the detector.
      params: {"params": ...}.
      images: BGR minus the mean; zero right of and below each picture.
      sizes: height and width of the pictures in the padded ones.
      selection: see there.
      at_once: regions of a picture whose C5 is in memory at a time.
      padding: "outside": every picture has the boxes and features that it has by itself; "inside":
        zeros around it are a part of it, as in the published code's batches.

    Returns:
      See `select_boxes`, with an axis of pictures before all others.
    """
    if padding not in ("outside", "inside"):
        raise ValueError(f'padding must be "outside" or "inside", found {padding!r}')

    extents = sizes.astype(jnp.int32) if padding == "outside" else None
    c4 = stage(model, params, "c4", images, extents)
    cells = c4_extents(extents, model.sizes.resnet.max_pool)
    return detect_in(model, params, c4, sizes, selection, at_once, cells)


def detect_in(
    model: FasterRCNN,
    params: Mapping[str, Any],
    c4: Float[Array, "B H W C"],
    sizes: Float[Array, "B 2"],
    selection: Selection,
    at_once: int,
    extents: Int[Array, "B 2"] | None = None,
) -> dict[str, Array]:
    """`detect` from feature maps on, of which `extents` are the pictures'; None: all of them."""
    scores, deltas = stage(model, params, "propose", c4)
    anchors = jnp.asarray(model.sizes.anchors(*c4.shape[1:3]))
    if extents is not None:
        ones = jnp.ones((*c4.shape[:3], len(model.sizes.cell_anchors)))
        inside = blanked(ones, extents).reshape(scores.shape) > 0
        scores = jnp.where(inside, scores, -jnp.inf)

    def picture(one: Sequence[Array]) -> dict[str, Array]:
        c4, scores, deltas, size = one
        proposals, _, valid = select_proposals(scores, deltas, anchors, size, selection)
        features = describe_regions(model, params, c4, proposals, at_once)
        predicted = stage(model, params, "predict", features)
        return select_boxes(predicted, features, proposals, valid, size, selection)

    return jax.lax.map(picture, (c4, scores, deltas, sizes))
