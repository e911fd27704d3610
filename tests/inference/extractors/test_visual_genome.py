"""The detector as an extractor: pictures in, a region store with classes and attributes out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from checkpoints import detector as detectors
from core.errors import DataError, UserError
from inference.extractors import visual_genome
from input_pipeline.importers import run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore, extractors, labels
from vl_models import loading
from vl_models.vision import canvas, faster_rcnn
from vl_models.vision.faster_rcnn import DetectorSizes, FasterRCNN, Selection
from vl_models.vision.resnet import ResNetSizes

PIXELS = canvas.Pixels(64, 96)


@functools.cache
def small():
    """A detector of a few layers, with random weights large enough to tell regions apart."""
    sizes = DetectorSizes(
        ResNetSizes(blocks=(1, 1, 1, 1), stem=4, inner=4, outer=8, max_pool="caffe"),
        classes=5,
        attributes=3,
        hidden=8,
        anchor_sizes=(16.0, 32.0),
        bins=4,
    )
    shapes = jax.eval_shape(lambda: faster_rcnn.initial_parameters(sizes, jax.random.key(0)))
    rs, arrays = np.random.RandomState(0), {}
    for path, x in sorted(loading.flatten(shapes["params"]).items()):
        values = rs.standard_normal(x.shape) * 0.3
        if path.endswith("kernel"):
            values = values / 0.3 / np.sqrt(np.prod(x.shape[:-1]))
        elif path.endswith(("scale", "variance")):
            values = 1 + abs(values)
        arrays[path] = values.astype(np.float32)
    return detectors.Detector(
        sizes,
        arrays,
        Selection(candidates=60, proposals=12, overlaps=(0.5, 0.9), least=3, most=6),
        PIXELS,
        objects=[f"object {i}" for i in range(5)],
        attributes=["red", "tall", "wet"],
        origin="a test",
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "detector"
    detectors.save(folder, small())
    return str(folder)


@functools.cache
def made(seed, height, width):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def test_sizes_and_canvases():
    pixels = canvas.Pixels(600, 1000)
    assert canvas.resized(480, 640, pixels) == (600, 800)
    assert canvas.resized(640, 427, pixels) == (899, 600)
    assert canvas.resized(300, 900, pixels) == (333, 1000)
    assert canvas.canvases(pixels) == [(600, 800), (800, 600), (600, 1000), (1000, 600)]
    assert canvas.canvas_of(480, 640, pixels) == (600, 800)
    assert canvas.canvas_of(900, 300, pixels) == (1000, 600)
    for height, width in ((1, 5000), (5000, 1), (7, 7), (3001, 2999)):
        rows, columns = canvas.resized(height, width, pixels)
        assert min(rows, columns) >= 1
        found = canvas.canvas_of(height, width, pixels)
        assert rows <= found[0]
        assert columns <= found[1]


def test_interpolation_by_hand():
    picture = np.float32([[0, 10], [20, 30]])[..., None]
    wide = canvas.interpolated(picture, 2, 4)[..., 0]
    np.testing.assert_allclose(wide, [[0, 2.5, 7.5, 10], [20, 22.5, 27.5, 30]])
    narrow = canvas.interpolated(np.arange(6, dtype=np.float32).reshape(1, 6, 1), 1, 2)
    np.testing.assert_allclose(narrow.ravel(), [1, 4])  # two pixels, not the mean of three
    same = made(0, 5, 7)
    np.testing.assert_array_equal(canvas.interpolated(same, 5, 7), same)


def test_pictures_to_a_store_and_back(tmp_path, weights):
    folder = tmp_path / "in"
    folder.mkdir()
    sizes = [(32, 40), (40, 32), (32, 39), (32, 40)]
    for index, (height, width) in enumerate(sizes):
        Image.fromarray(made(index, height, width)).save(folder / f"{index}.png")
    options = f'{{"weights": "{weights}", "batch_size": 1}}'
    settings = ImportSettings(
        options={"extractor": "visual_genome", "extractor_options": options}, dtype="float32"
    )
    done = run.convert("pictures", [str(folder)], tmp_path / "store", settings)
    assert (done.images, done.skipped) == (4, 0)
    spec = done.spec
    assert (spec.feature_dim, spec.num_classes, spec.background_class) == (64, 6, 5)
    assert small().digest() in spec.detector
    assert "3-6 boxes" in spec.detector
    store = RegionStore.open(tmp_path / "store")
    names = labels.Labels.open(str(tmp_path / "store"))
    assert names.classes == (*small().objects, "__background__")
    assert names.attributes == ("red", "tall", "wet")

    # One picture by itself, without a canvas around it, neighbours or sharding.
    picture = made(2, 32, 39)
    image = canvas.interpolated(picture[..., ::-1], 64, 78)[None] - np.float32(PIXELS.mean)
    params = {"params": loading.unflatten(dict(small().arrays))}
    model, selection = FasterRCNN(small().sizes), small().selection
    detect = jax.jit(
        lambda x, n: faster_rcnn.detect(model, params, x, n, selection, padding="inside")
    )
    found = jax.device_get(detect(jnp.asarray(image), jnp.float32([[64, 78]])))
    valid = found["valid"][0]
    assert 3 <= valid.sum() <= 6
    row = int(store.rows_of(["2"])[0])
    record = store.read(row)
    np.testing.assert_allclose(record["boxes"], found["boxes"][0][valid] / 2, atol=1e-3)
    np.testing.assert_allclose(record["features"][1:], found["features"][0][valid], rtol=1e-4)
    np.testing.assert_array_equal(
        record["class_ids"][:, 0], found["class_probs"][0][valid].argmax(1)
    )
    np.testing.assert_allclose(
        names.attributes_of(row)[1].max(1), found["attribute_probs"][0][valid].max(1), atol=1e-3
    )


def test_a_detector_that_finds_nothing_says_so(weights):
    extractor = visual_genome.Extractor(weights, batch_size=1)
    empty = {"boxes": np.zeros((0, 4)), "features": np.zeros((0, 64))}
    assert isinstance(extractor._regions(empty), DataError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dtype="float16"), "float32 or bfloat16"),
        (dict(boxes="100,10"), '"10,100" or "36"'),
        (dict(boxes="many"), '"10,100" or "36"'),
        (dict(size="0"), '"10,100" or "36"'),
    ],
)
def test_wrong_options(weights, options, message):
    with pytest.raises(UserError, match=message):
        visual_genome.Extractor(weights, **options)


def test_names_from_files(tmp_path, weights):
    path = tmp_path / "objects.txt"
    path.write_text("dog,puppy\ncat\ncow\nhen\nox")
    extractor = visual_genome.Extractor(weights, objects=str(path), boxes="4")
    assert extractor.class_names == ("dog", "cat", "cow", "hen", "ox", "__background__")
    assert "4-4 boxes" in extractor.name
    path.write_text("dog\ncat\n")
    with pytest.raises(DataError, match="5 lines"):
        visual_genome.Extractor(weights, objects=str(path))


def test_without_weights_it_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"frcnn-vg-finetuned"):
        visual_genome.Extractor()


def test_short_names_are_the_files():
    assert "visual_genome" in extractors.known()
