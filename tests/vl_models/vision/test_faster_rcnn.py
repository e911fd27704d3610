"""The Visual-Genome detector against the published one: each stage from the one before, and all."""

import functools

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models import loading
from vl_models.published import faster_rcnn as published
from vl_models.vision import faster_rcnn
from vl_models.vision.faster_rcnn import DetectorSizes, FasterRCNN, Selection
from vl_models.vision.resnet import BLOCKS, STRIDE, ResNetSizes
from vl_models.vision.roi_pool import roi_pool


@functools.cache
def golden():
    return golden_files.Golden(golden_files.files("faster_rcnn_vg.npz")[0])


def sizes_of(meta):
    """The golden file's sizes, as a user would give them."""
    config, resnet = meta["config"], meta["config"]["RESNETS"]
    return DetectorSizes(
        resnet=ResNetSizes(
            blocks=BLOCKS[resnet["DEPTH"]],
            stem=resnet["STEM_OUT_CHANNELS"],
            inner=resnet["WIDTH_PER_GROUP"],
            outer=resnet["RES2_OUT_CHANNELS"],
            stride_in_1x1=resnet["STRIDE_IN_1X1"],
            max_pool="caffe" if config["MODEL"]["MAX_POOL"] else "torch",
        ),
        classes=config["ROI_HEADS"]["NUM_CLASSES"],
        attributes=config["ROI_BOX_HEAD"]["NUM_ATTRS"],
        hidden=config["PROPOSAL_GENERATOR"]["HIDDEN_CHANNELS"],
        anchor_sizes=tuple(map(float, config["ANCHOR_GENERATOR"]["SIZES"][0])),
        anchor_ratios=tuple(config["ANCHOR_GENERATOR"]["ASPECT_RATIOS"][0]),
        bins=config["ROI_BOX_HEAD"]["POOLER_RESOLUTION"],
    )


def selection_of(config):
    return Selection(
        candidates=config["RPN"]["PRE_NMS_TOPK_TEST"],
        proposals=config["RPN"]["POST_NMS_TOPK_TEST"],
        proposal_overlap=config["RPN"]["NMS_THRESH"],
        overlaps=tuple(config["ROI_HEADS"]["NMS_THRESH_TEST"]),
        least=config["MIN_DETECTIONS"],
        most=config["MAX_DETECTIONS"],
    )


@functools.cache
def made():
    """(model, params, selection) of the golden file, through the importer's names."""
    file = golden()
    model = FasterRCNN(sizes_of(file.meta))
    shapes = jax.eval_shape(lambda: faster_rcnn.initial_parameters(model.sizes, jax.random.key(0)))
    flat = published.translate(file.state_dict({}))
    params = {"params": golden_files.fitted(shapes["params"], flat)}
    return model, params, selection_of(file.meta["config"])


def run(method, *inputs):
    model, params, _ = made()
    return jax.jit(functools.partial(model.apply, method=method))(params, *map(jnp.asarray, inputs))


def channels_last(x):
    return x.transpose(0, 2, 3, 1)


def images():
    return channels_last(golden()["in/images"])


def sizes():
    return golden()["in/sizes"].astype(np.float32)


@functools.cache
def c4():
    return run("c4", images())


def test_c4_is_the_published_one():
    golden().check_output("c4", c4().transpose(0, 3, 1, 2))


def test_scores_and_deltas_of_anchors():
    scores, deltas = run("propose", channels_last(golden()["out/c4"]))
    expected = channels_last(golden()["out/rpn_logits"]).reshape(scores.shape)
    np.testing.assert_allclose(scores, expected, atol=2e-5, rtol=2e-4)
    expected = channels_last(golden()["out/rpn_deltas"]).reshape(deltas.shape)
    np.testing.assert_allclose(deltas, expected, atol=2e-5, rtol=2e-4)


def test_anchors_are_the_published_ones():
    rows, columns = golden()["out/c4"].shape[2:]
    found = made()[0].sizes.anchors(rows, columns)
    np.testing.assert_allclose(found, golden()["out/anchors"][0, 0], atol=1e-4)


def test_proposals_are_the_published_ones():
    model, _, selection = made()
    logits = channels_last(golden()["out/rpn_logits"])
    scores = logits.reshape(2, -1)
    deltas = channels_last(golden()["out/rpn_deltas"]).reshape(2, -1, 4)
    anchors = jnp.asarray(model.sizes.anchors(*logits.shape[1:3]))
    select = jax.jit(
        jax.vmap(lambda s, d, n: faster_rcnn.select_proposals(s, d, anchors, n, selection))
    )
    boxes, best, valid = select(*map(jnp.asarray, (scores, deltas, sizes())))
    counts = golden()["out/proposal_counts"]
    assert valid.sum(1).tolist() == counts.tolist()
    mask = np.asarray(valid)
    np.testing.assert_allclose(boxes[mask], golden()["out/proposals"], atol=1e-3)
    golden().check_output("proposal_logits", best[mask])


def by_picture(name, rows=slice(None)):
    """One output of all proposals, as that of each picture."""
    x, counts = golden()[f"out/{name}"], golden()["out/proposal_counts"]
    assert (counts == counts[0]).all()
    return x.reshape(len(counts), counts[0], *x.shape[1:])[:, rows]


def test_pooled_regions_are_the_published_ones():
    features = jnp.asarray(channels_last(golden()["out/c4"])[0])
    boxes = jnp.asarray(by_picture("proposals", slice(6))[0])
    found = jax.jit(lambda c, b: roi_pool(c, b, made()[0].sizes.bins, 1 / STRIDE))(features, boxes)
    np.testing.assert_array_equal(found, channels_last(golden()["out/roi_pool"]))


def test_features_of_pooled_regions():
    model, params, _ = made()
    maps = jnp.asarray(channels_last(golden()["out/c4"]))
    regions = jnp.asarray(by_picture("proposals"))
    describe = jax.jit(
        lambda c, b: faster_rcnn.describe_regions(model, params, c, b, at_once=len(b))
    )
    found = np.concatenate([describe(maps[0], regions[0]), describe(maps[1], regions[1])])
    golden().check_output("proposal_features", found)


def test_what_the_heads_predict():
    found = run("predict", golden()["out/proposal_features"])
    golden().check_output("class_logits", found["class_logits"])
    golden().check_output("attribute_logits", found["attribute_logits"])
    golden().check_output("box_deltas", found["deltas"].reshape(len(found["deltas"]), -1))


def check_boxes(found):
    """Every output of the published detector, from ours."""
    mask, scales = np.asarray(found["valid"]), golden()["in/scales_yx"]
    assert mask.sum(1).tolist() == golden()["out/preds_per_image"].tolist()
    ids = np.asarray(found["class_ids"])
    np.testing.assert_array_equal(ids[mask], golden()["out/obj_ids"][mask])
    golden().check_output("obj_probs", found["class_scores"], mask)
    attributes = np.asarray(found["attribute_probs"])
    np.testing.assert_array_equal(attributes.argmax(-1)[mask], golden()["out/attr_ids"][mask])
    golden().check_output("attr_probs", attributes.max(-1), mask)
    golden().check_output("roi_features", found["features"], mask)
    boxes = np.asarray(found["boxes"]) * np.tile(scales[:, None, ::-1], 2)
    np.testing.assert_allclose(boxes[mask], golden()["out/boxes"][mask], atol=2e-3)
    assert not np.asarray(found["features"])[~mask].any()


def test_boxes_from_the_published_predictions():
    _, _, selection = made()
    names = dict(class_logits="class_logits", attribute_logits="attribute_logits")
    predicted = {ours: jnp.asarray(by_picture(name)) for ours, name in names.items()}
    deltas = by_picture("box_deltas")
    predicted["deltas"] = jnp.asarray(deltas.reshape(*deltas.shape[:2], -1, 4))
    proposals = jnp.asarray(by_picture("proposals"))
    valid = jnp.ones(proposals.shape[:2], bool)
    select = jax.jit(jax.vmap(lambda *x: faster_rcnn.select_boxes(*x, selection)))
    features = jnp.asarray(by_picture("proposal_features"))
    check_boxes(select(predicted, features, proposals, valid, jnp.asarray(sizes())))


def test_sure_boxes_and_the_least_number():
    """Boxes apart from each other, of scores .9 to .1: those above a score, or the best."""
    probs = np.float32([[0.1, 0.9], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])[:, [1, 0]]
    corners = np.arange(4, dtype=np.float32)[:, None] * [20, 0, 20, 0] + [0, 0, 10, 10]
    predicted = dict(
        class_logits=jnp.log(probs), deltas=jnp.zeros((4, 1, 4)), attribute_logits=jnp.zeros((4, 3))
    )

    def chosen(score, least):
        selection = Selection(proposals=4, least=least, most=4, score=score)
        found = faster_rcnn.select_boxes(
            predicted, jnp.ones((4, 2)), jnp.float32(corners), jnp.ones(4, bool),
            jnp.float32([100, 100]), selection,
        )  # fmt: skip
        return np.asarray(found["class_scores"][found["valid"]]).round(3).tolist()

    everything = np.float32([0.9, 0.6, 0.4, 0.1]).tolist()
    for score, least, count in ((0.0, 1, 4), (0.5, 1, 2), (0.5, 3, 3), (0.95, 1, 1)):
        np.testing.assert_allclose(chosen(score, least), everything[:count], atol=1e-3)


def test_from_pixels_to_boxes():
    model, params, selection = made()
    detect = jax.jit(lambda x, n: faster_rcnn.detect_in(model, params, x, n, selection, at_once=20))
    check_boxes(detect(c4(), jnp.asarray(sizes())))


def test_names():
    state = golden().state_dict({})
    flat = published.translate(
        {
            **state,
            published.ANCHORS: np.zeros((12, 4)),
            "backbone.stem.conv1.norm.num_batches_tracked": np.zeros(()),
        }
    )
    assert len(flat) == len(state)
    assert loading.flatten(made()[1]["params"]).keys() == flat.keys()
    with pytest.raises(KeyError, match=r"backbone\.res2\.0\.conv9"):
        published.translate({"backbone.res2.0.conv9.weight": np.zeros(1)})
