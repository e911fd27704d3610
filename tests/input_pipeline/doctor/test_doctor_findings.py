"""What `doctor inspect` finds: each defect is seen, sound data gives no suspicion."""

import numpy as np
import pytest
import xxhash
from made_data import image, write_store
from made_regions import IMAGES, REGIONS, C, F, look, made, names, normalised, store_of

from input_pipeline.doctor.boxes import BoxStats
from input_pipeline.doctor.examine import examine
from input_pipeline.doctor.report import text
from input_pipeline.doctor.sources import Sample, open_source
from input_pipeline.regions import RegionStore


def test_sound(tmp_path):
    result = look(tmp_path, made())
    assert names(result) == set()
    assert result.verdict == "sound"
    statistics = result.statistics
    assert statistics["images"] == IMAGES
    assert statistics["all"]
    assert statistics["boxes"]["convention"] == "xyxy_pixels"
    assert statistics["boxes"]["fits"]["xyxy_pixels"] == 1
    assert statistics["classes"]["background"] == 0
    assert statistics["classes"]["count"] == C
    assert statistics["regions"]["min"] == statistics["regions"]["max"] == REGIONS
    assert statistics["features"]["dtype"] == ["float32"]
    assert statistics["features"]["dim"] == [F]
    assert 0.4 < statistics["features"]["zeros"] < 0.6
    assert statistics["features"]["negatives"] == 0
    regions = np.delete(made()["feat"], np.arange(IMAGES) * (REGIONS + 1), axis=0)
    norms = np.linalg.norm(regions, axis=1)
    assert statistics["features"]["norm_mean"] == pytest.approx(norms.mean(), rel=1e-5)
    assert statistics["features"]["norm_quantiles"]["0.5"] == pytest.approx(
        np.median(norms), rel=1e-5
    )
    assert names(result, "note") == {"unsorted"}


def _xywh(a):
    a["boxes"][:, 2:] -= a["boxes"][:, :2]


def _normalised_xywh(a):
    normalised(a)
    _xywh(a)


def _swapped(a):
    a["hw"] = a["hw"][:, ::-1].copy()


def _nan(a):
    a["feat"][3, 2] = np.nan


def _nan_box(a):
    a["boxes"][17, 1] = np.inf


def _zero(a):
    a["feat"][5] = 0


def _equal_regions(a):
    a["feat"][2:12] = a["feat"][1]


def _equal_images(a):
    size = REGIONS + 1
    a["feat"][size : 2 * size] = a["feat"][:size]


def _sums(a):
    a["cls_prob"][40] *= 1.5


def _logits(a):
    a["cls_prob"] = np.random.default_rng(1).standard_normal((IMAGES * REGIONS, C))


def _background_last(a):
    a["cls_prob"] = np.roll(a["cls_prob"], -1, axis=1)


def _outside(a):
    a["boxes"][9, 2] = 5000


def _no_area(a):
    a["boxes"][9, 2] = a["boxes"][9, 0]


def _half_scale(a):
    a["boxes"] /= 3


def _whole_first(a):
    a["boxes"][::REGIONS, :2] = 0
    a["boxes"][::REGIONS, 2:] = a["hw"][:, ::-1] - 1


def _byte_order(a):
    a["feat"] = a["feat"].byteswap()


def _repeated(a):
    a["paths"][4] = a["paths"][2]


def _no_size(a):
    a["hw"][3, 0] = 0


def _empty(a):  # the next image gets the boxes too
    a["offset"][1] = 0


DEFECTS = [
    (_xywh, {"boxes_xywh"}, "broken"),
    (normalised, {"boxes_normalised"}, "broken"),
    (_normalised_xywh, {"boxes_normalised", "boxes_xywh"}, "broken"),
    (_swapped, {"swapped_size"}, "suspicious"),
    (_nan, {"not_finite"}, "broken"),
    (_nan_box, {"boxes_not_finite"}, "broken"),
    (_zero, {"zero_features"}, "suspicious"),
    (_equal_regions, {"equal_regions"}, "suspicious"),
    (_equal_images, {"equal_images"}, "suspicious"),
    (_sums, {"class_sums"}, "broken"),
    (_logits, {"class_sums"}, "broken"),
    (_background_last, {"background"}, "suspicious"),
    (_outside, {"boxes_outside"}, "broken"),
    (_no_area, {"boxes_without_area"}, "suspicious"),
    (_half_scale, {"boxes_low_reach"}, "suspicious"),
    (_whole_first, {"first_region_is_image"}, "suspicious"),
    (_repeated, {"repeated_ids"}, "broken"),
    (_no_size, {"image_size", "boxes_outside"}, "broken"),
    (_empty, {"no_regions", "boxes_outside"}, "broken"),
]


@pytest.mark.parametrize(("spoil", "expected", "verdict"), DEFECTS)
def test_defect(tmp_path, spoil, expected, verdict):
    arrays = made()
    spoil(arrays)
    result = look(tmp_path, arrays)
    assert names(result) == expected
    assert result.verdict == verdict


def test_wrong_byte_order(tmp_path):
    arrays = made()
    _byte_order(arrays)
    assert names(look(tmp_path, arrays)) & {"huge_values", "not_finite"}


def test_evidence_is_told(tmp_path):
    arrays = made()
    _background_last(arrays)
    arrays["boxes"][17, 1] = np.nan
    texts = {f.name: f.text for f in look(tmp_path, arrays).findings}
    assert f"looks like column {C - 1} of {C}" in texts["background"]
    assert "present in 100 %" in texts["background"]
    assert "column 0 is stated" in texts["background"]
    assert "box 5 of" in texts["boxes_not_finite"]
    assert "image number 1" in texts["boxes_not_finite"]


@pytest.mark.parametrize(
    ("key", "order"),
    [
        (lambda a: np.prod(a["boxes"][:, 2:] - a["boxes"][:, :2], axis=1), "box area"),
        (lambda a: a["cls_prob"].max(1), "best class, background included"),
        (lambda a: a["cls_prob"][:, 1:].max(1), "best class without background"),
    ],
)
def test_order(tmp_path, key, order):
    arrays = made()
    for i in range(IMAGES):
        rows = slice(i * REGIONS, (i + 1) * REGIONS)
        by = np.argsort(-key(arrays)[rows])
        for name in ("boxes", "cls_prob"):
            arrays[name][rows] = arrays[name][rows][by]
    result = look(tmp_path, arrays)
    assert result.statistics["regions"]["order"] == order
    assert names(result, "note") == set()


def test_whole_image_row_is_no_mean(tmp_path):
    path = store_of(tmp_path, made())
    store = RegionStore.open(path)
    shard = tmp_path / "s" / "shard-00000.bin"
    data = np.frombuffer(bytearray(shard.read_bytes()), np.uint8)
    size = store.spec.record_nbytes(REGIONS)
    store.spec.split_record(data[:size], REGIONS)["features"][0] = 7
    shard.write_bytes(data.tobytes())
    source = open_source([path])
    index = source.store._folders[0].index
    index["xxh3"] = index["xxh3"].copy()
    index["xxh3"][0] = xxhash.xxh3_64_intdigest(data[:size])
    assert names(examine(source)) == {"whole_is_no_mean"}


def test_fifth_number_of_boxes():
    stats = BoxStats()
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.random((30, 2, 2)) * 90, axis=1).reshape(30, 4)
    share = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True) / 90**2
    features = np.ones((30, 2), np.float32)
    five = np.concatenate([boxes, share], 1)
    stats.add(Sample("a", "a", 90, 90, five, features, None, None, None, "float32"))
    (finding,) = stats.findings()
    assert finding.name == "box_columns"
    assert finding.text == (
        "boxes have 5 numbers, not 4; the fifth is the share of the image's area"
    )
    assert stats.statistics()["columns"] == [5]


def test_hints(tmp_path):
    rng = np.random.default_rng(0)
    arrays = made()
    arrays["feat"] = np.maximum(rng.standard_normal((len(arrays["feat"]), 2048)), 0)
    del arrays["cls_prob"]
    assert "bottom-up attention" in look(tmp_path, arrays).statistics["looks_like"][0]
    arrays["feat"] -= 1
    assert look(tmp_path, arrays).statistics["looks_like"] == []


@pytest.mark.parametrize("portraits", [0, 8])
def test_sizes_of_a_side_for_both(tmp_path, portraits):
    """Sizes with width = height, where boxes end at three quarters of one of them."""
    arrays = made()
    rng = np.random.default_rng(0)
    arrays["hw"][:] = 300, 400
    arrays["hw"][:portraits] = 400, 300
    corners = np.sort(rng.random((IMAGES * REGIONS, 2, 2)), axis=1)
    corners *= arrays["hw"].repeat(REGIONS, 0)[:, None, ::-1]
    arrays["boxes"] = corners.reshape(-1, 4).astype(np.float32)
    arrays["boxes"][::REGIONS, 2:] = arrays["hw"][:, ::-1]  # sound pictures have boxes at the edge
    assert names(look(tmp_path, arrays)) == set()
    arrays["hw"][:] = 400
    result = look(tmp_path, arrays)
    assert names(result) == {"one_aspect"}
    text = next(f.text for f in result.findings if f.name == "one_aspect")
    assert "as wide as high, but boxes end at 75%" in text


def test_sizes_of_another_scale(tmp_path):
    arrays = made()
    arrays["hw"] = arrays["hw"] * 4 // 3
    assert names(look(tmp_path, arrays)) == {"boxes_low_reach"}


def test_columns_of_a_detectors_objects_alone(tmp_path):
    """1,600 columns are not also said to have a background, and the import's option is named."""
    rng, arrays = np.random.default_rng(0), made()
    probs = rng.dirichlet(np.ones(1600), len(arrays["boxes"])).astype(np.float32)
    for part, names_found in (
        (probs, {"classes_without_background"}),
        (probs * 0.9, {"classes_without_background", "class_sums"}),
    ):
        result = look(tmp_path, {**arrays, "cls_prob": part})
        assert names(result) == names_found
        assert all("--class_scores without_background" in f.text for f in result.findings[:1])
        assert "none of the 1,600 columns" in text(result)
        assert "column 0" not in text(result).partition("background  ")[2].partition("\n")[0][:40]


def test_random_toy_store_has_no_background(tmp_path):
    """Distributions without any structure claim nothing."""
    result = examine(open_source([write_store(tmp_path / "s")]))
    assert result.statistics["classes"]["background"] is None
    assert "background" not in names(result)
    assert image(0)["boxes"].max() < 80
