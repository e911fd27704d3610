"""Pictures and a model in, a region store out."""

import contextlib
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from core.errors import DataError, ForeignError
from input_pipeline.importers import pictures, run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore, extract, extractors, labels

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)

# What a user would write: a grid of mean colours, with a distribution over the colours.
ADAPTER = """
import dataclasses
import numpy as np
from input_pipeline.regions.extract import Regions, grid_boxes
from input_pipeline.schema import DataError

class Colours:
    feature_dim, num_classes, background_class, global_feature = 3, 3, None, "stored"

    def __init__(self, rows=2, columns=3, dark=False):
        self.name, self.dark = f"colours-{rows}x{columns}", dark
        self.rows, self.columns = rows, columns

    def __call__(self, picture):
        if self.dark and picture.mean() < 9:
            raise DataError("a picture is too dark")
        boxes = grid_boxes(self.rows, self.columns, *picture.shape[:2])
        means = np.stack([
            picture[round(y1) : round(y2), round(x1) : round(x2)].mean((0, 1))
            for x1, y1, x2, y2 in boxes.tolist()
        ])
        probs = (means + 1) / (means + 1).sum(1, keepdims=True)
        return Regions(boxes, means, probs, picture.mean((0, 1)))

class Together(Colours):
    # Batches of pictures of one height; each call is noted in CALLS.
    batch_size, most_workers, attribute_names = 3, 1, ("dark", "light", "red")
    class_names = ("r", "g", "b")

    def canvas(self, height, width):
        return height

    def __call__(self, picture):
        found = super().__call__(picture)
        light = found.features.mean(1, keepdims=True) / 255
        return dataclasses.replace(
            found, attribute_probs=np.concatenate([1 - light, light, light / 2], 1)
        )

    def batch(self, pictures):
        CALLS.append([picture.shape[0] for picture in pictures])
        if LIMIT and len(CALLS) > LIMIT[0]:
            raise KeyboardInterrupt
        assert len({picture.shape[0] for picture in pictures}) == 1
        found = []
        for picture in pictures:
            try:
                found.append(self(picture))
            except DataError as error:
                found.append(error)
        return found

class Short(Together):
    def batch(self, pictures):
        return super().batch(pictures)[1:]

CALLS, LIMIT = [], []

class Wrong(Colours):
    feature_dim = 4

class NoSpec(Colours):
    global_feature = "none"
"""


@pytest.fixture
def adapter(tmp_path_factory, monkeypatch):
    """Makes `colour_adapter:Colours` importable, as in a working folder."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "colour_adapter.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(str(folder))
    extractors.load.cache_clear()
    yield "colour_adapter:Colours"
    extractors.load.cache_clear()
    sys.modules.pop("colour_adapter", None)


def picture(seed, height=40, width=60):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(folder, name, pixels, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def convert(folder, out, extractor, on_bad="error", **options):
    options = {"extractor": extractor, **options}
    done = run.convert(
        "pictures",
        [str(folder)],
        out,
        ImportSettings(options=options, on_bad=on_bad, dtype="float32"),
    )
    return done, RegionStore.open(out)


def row(store, image_id):
    out = store.allocate(1, 1, 7)
    store.read_into(out, store.rows_of([image_id])[None])
    return {name: value[0, 0] for name, value in out.items()}


def test_grid_boxes():
    boxes = extract.grid_boxes(2, 3, height=10, width=90)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [
        [0, 0, 30, 5],
        [30, 0, 60, 5],
        [60, 0, 90, 5],
        [0, 5, 30, 10],
        [30, 5, 60, 10],
        [60, 5, 90, 10],
    ]


def test_pictures_to_store(tmp_path, adapter):
    folder = tmp_path / "in"
    save(folder, "a.png", picture(0))
    save(folder, "sub/000012.JPG", picture(1, 30, 50), format="JPEG")
    (folder / "notes.txt").write_text("no picture")
    done, store = convert(folder, tmp_path / "store", adapter)
    assert (done.images, done.skipped) == (2, 0)
    assert sorted(store.keys) == ["a", "sub/000012"]
    spec = store.spec
    assert (spec.detector, spec.feature_dim, spec.num_classes) == ("colours-2x3", 3, 3)
    assert (spec.global_feature, spec.background_class) == ("stored", None)
    got = row(store, "a")
    assert got["image_size"].tolist() == [40, 60]
    pixels = picture(0).astype(np.float32)
    np.testing.assert_allclose(got["regions"][0], pixels.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(got["regions"][1], pixels[:20, :20].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(got["regions"][6], pixels[20:, 40:].mean((0, 1)), rtol=1e-5)
    assert got["boxes"][6].tolist() == [40, 20, 60, 40]


def test_options_and_workers_change_nothing_else(tmp_path, adapter):
    folder = tmp_path / "in"
    for i in range(4):
        save(folder, f"{i}.png", picture(i))
    options = {"extractor": adapter, "extractor_options": '{"columns": 1}'}
    arguments = dict(options=options, part_size=1, ids="number")
    run.convert("pictures", [str(folder)], tmp_path / "one", ImportSettings(**arguments))
    run.convert("pictures", [str(folder)], tmp_path / "two", ImportSettings(**arguments, workers=2))
    one, two = RegionStore.open(tmp_path / "one"), RegionStore.open(tmp_path / "two")
    assert one.spec.detector == "colours-2x1"
    assert one.keys == ["0", "1", "2", "3"]
    assert one.fingerprint == two.fingerprint


def test_kinds_of_pictures(tmp_path):
    """Grey, palette, CMYK and transparent pictures become RGB; EXIF turns them upright."""
    rgb = Image.fromarray(np.full((20, 30, 3), (200, 100, 50), np.uint8))

    def decoded(image, name, **options):
        image.save(tmp_path / name, **options)
        return pictures.decode((tmp_path / name).read_bytes(), name)

    grey = decoded(rgb.convert("L"), "l.png")
    assert grey.shape == (20, 30, 3)
    assert (grey == grey[..., :1]).all()
    for mode in ("RGBA", "P"):
        expected = np.asarray(rgb.convert(mode).convert("RGB"))
        assert (decoded(rgb.convert(mode), f"{mode}.png") == expected).all()
    cmyk = decoded(rgb.convert("CMYK"), "cmyk.jpg", quality=95).astype(int)
    assert np.abs(cmyk - (200, 100, 50)).max() < 12
    assert decoded(rgb, "w.webp").shape == (20, 30, 3)

    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    marked = np.zeros((20, 30, 3), np.uint8)
    marked[10:] = 255  # the lower half becomes the left half
    turned = decoded(Image.fromarray(marked), "turned.jpg", exif=exif, quality=95)
    assert turned.shape == (30, 20, 3)
    assert turned[:, :8].mean() > 250
    assert turned[:, 12:].mean() < 5


def damaged(folder, kind):
    good = save(folder, "b.jpg", picture(1)).read_bytes()
    data = {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "no picture": b"<html>not found</html>",
        "deep": None,
    }[kind]
    if kind == "deep":
        Image.fromarray(np.zeros((9, 9), np.uint16)).save(folder / "b.png")
        (folder / "b.jpg").unlink()
        return
    (folder / "b.jpg").write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "a picture cannot be read.*b.jpg.*truncated"),
        ("empty", "a picture cannot be read.*0 bytes"),
        ("no picture", "a picture cannot be read.*b.jpg"),
        ("deep", "unusual kind of pixels.*b.png.*'I;16'"),
    ],
)
def test_bad_pictures(tmp_path, adapter, kind, message):
    folder = tmp_path / "in"
    save(folder, "a.jpg", picture(0))
    damaged(folder, kind)
    with pytest.raises(DataError, match=f"(?s){message}.*--on_bad skip"):
        convert(folder, tmp_path / "store", adapter)
    assert sorted(os.listdir(tmp_path)) == ["in"]
    done, store = convert(folder, tmp_path / "store", adapter, on_bad="skip")
    assert (done.skipped, store.keys) == (1, ["a"])


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_never_crash(tmp_path, seed):
    rng = np.random.default_rng(seed)
    for name, options in (("a.jpg", {}), ("a.png", {}), ("a.webp", {"lossless": True})):
        good = np.frombuffer(save(tmp_path, name, picture(1, 12, 12), **options).read_bytes(), "u1")
        for _ in range(60):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 3)] = rng.integers(0, 256, 3)
            with contextlib.suppress(DataError):  # and no other exception
                assert pictures.decode(bad.tobytes(), name).shape[2] == 3


def test_same_id_twice(tmp_path, adapter):
    folder = tmp_path / "in"
    save(folder, "a.jpg", picture(0))
    save(folder, "a.png", picture(0))
    with pytest.raises(DataError, match=r"(?s)image id occurs twice.*a\.jpg and .*a\.png"):
        convert(folder, tmp_path / "store", adapter)
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_an_extractor_may_refuse_a_picture(tmp_path, adapter):
    folder = tmp_path / "in"
    save(folder, "a.png", picture(0))
    save(folder, "b.png", picture(0) * 0)
    options = {"extractor_options": '{"dark": true}'}
    with pytest.raises(DataError, match="too dark"):
        convert(folder, tmp_path / "store", adapter, **options)
    done, store = convert(folder, tmp_path / "store", adapter, on_bad="skip", **options)
    assert (done.skipped, store.keys) == (1, ["a"])


def test_mistakes_of_an_adapter_are_not_skipped(tmp_path, adapter):
    folder = tmp_path / "in"
    save(folder, "a.png", picture(0))
    wrong = adapter.replace("Colours", "Wrong")
    with pytest.raises(ForeignError, match=r"(?s)features of extractor.*\(6, 4\).*\(6, 3\)"):
        convert(folder, tmp_path / "store", wrong, on_bad="skip")
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_batches_of_one_canvas(tmp_path, adapter):
    """As one by one, in the same order; those of one height go together; bad ones are left out."""
    folder, together = tmp_path / "in", adapter.replace("Colours", "Together")
    heights = [20, 30, 20, 20, 30, 20, 20, 20, 30]
    for index, height in enumerate(heights):
        save(folder, f"{index}.png", picture(index, height=height))
    save(folder, "3.png", np.zeros((20, 9, 3), np.uint8))
    (folder / "4.png").write_bytes(b"no picture")
    options = dict(extractor_options='{"dark": true}', on_bad="skip")
    done, store = convert(folder, tmp_path / "store", together, **options)
    assert (done.images, done.skipped) == (7, 2)
    calls = sys.modules["colour_adapter"].CALLS
    assert sorted(calls) == [[20, 20, 20], [20, 20, 20], [30, 30]]
    extractors.load.cache_clear()
    _, single = convert(folder, tmp_path / "single", adapter, **options)
    assert store.keys == single.keys
    assert store.fingerprint == single.fingerprint
    assert labels.Labels.open(str(tmp_path / "single")) is None

    found = labels.Labels.open(str(tmp_path / "store"))
    assert (found.classes, found.attributes) == (("r", "g", "b"), ("dark", "light", "red"))
    ids, probs = found.attributes_of(store.keys.index("5"))
    light = picture(5, height=20)[:10, :20].mean() / 255  # of the first region
    assert ids.shape == (6, 3)
    assert ids[0].tolist() == ([1, 0, 2] if light > 0.5 else [0, 1, 2])
    np.testing.assert_allclose(sorted(probs[0])[-1], max(light, 1 - light), atol=1e-3)
    data = bytearray((tmp_path / "store" / "attributes.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "store" / "attributes.npz").write_bytes(data)
    with pytest.raises(DataError, match="attributes are damaged"):
        labels.Labels.open(str(tmp_path / "store"))


def test_batches_go_on_where_they_stopped(tmp_path, adapter):
    folder, together = tmp_path / "in", adapter.replace("Colours", "Together")
    for index in range(6):
        save(folder, f"{index}.png", picture(index))
    settings = ImportSettings(options={"extractor": together}, part_size=1)
    extractors.load(together, "")
    module = sys.modules["colour_adapter"]
    module.LIMIT[:] = [4]
    with pytest.raises(KeyboardInterrupt):
        run.convert("pictures", [str(folder)], tmp_path / "store", settings)
    module.CALLS.clear()
    module.LIMIT.clear()
    done = run.convert("pictures", [str(folder)], tmp_path / "store", settings)
    assert (done.images, len(module.CALLS)) == (6, 2)
    found = labels.Labels.open(str(tmp_path / "store"))
    assert len(found.ids) == 6 * 6


def test_fewer_results_than_pictures(tmp_path, adapter):
    save(tmp_path / "in", "a.png", picture(0))
    with pytest.raises(ForeignError, match=r"(?s)0 results for 1 pictures.*a\.png"):
        convert(tmp_path / "in", tmp_path / "store", adapter.replace("Colours", "Short"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", "", "cannot be found.*module:Class"),
        ("colour_adapter", "", "one of .*visual_genome.*no module:Class: 'colour_adapter'"),
        ("colour_adapter:Color", "", "no attribute 'Color'"),
        ("no_such_module:A", "", "No module named 'no_such_module'"),
        ("colour_adapter:Colours", "{rows", "wrong options"),
        ("colour_adapter:Colours", "[2]", "wrong options.*rows=2, columns=3.*list"),
        ("colour_adapter:Colours", '{"row": 2}', "wrong options.*rows=2.*argument 'row'"),
        ("colour_adapter:NoSpec", "", "'global_feature'.*no feature spec.*'none'"),
    ],
)
def test_unknown_extractors(tmp_path, adapter, name, options, message):
    save(tmp_path / "in", "a.png", picture(0))
    with pytest.raises(DataError, match=f"(?s){message}"):
        convert(tmp_path / "in", tmp_path / "store", name, extractor_options=options)
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_no_pictures(tmp_path, adapter):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=r"\.jpg"):
        convert(tmp_path / "in", tmp_path / "store", adapter)
    with pytest.raises(DataError, match=r"(?s)cannot be read.*out"):
        convert(tmp_path / "out", tmp_path / "store", adapter)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_pictures(tmp_path, adapter):
    (tmp_path / "in").mkdir()
    chosen = sorted((REAL / "coco_mini/val2017").glob("*.jpg"))[:6]
    for path in chosen:
        shutil.copy(path, tmp_path / "in")
    arguments = dict(options={"extractor": adapter}, ids="number")
    done = run.convert(
        "pictures", [str(tmp_path / "in")], tmp_path / "store", ImportSettings(**arguments)
    )
    assert done.images == 6
    store = RegionStore.open(tmp_path / "store")
    assert store.keys == [str(int(path.stem)) for path in chosen]
    with Image.open(chosen[0]) as image:
        assert row(store, store.keys[0])["image_size"].tolist() == [image.height, image.width]


def test_suffixes_in_any_case_and_what_is_left_out(tmp_path, adapter, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.Jpg", "b.BMP", "c.tiff", "d.gif", "e.png"):
        Image.new("RGB", (8, 8), (9, 99, 199)).save(folder / name)
    (folder / "list.txt").write_text("a")
    (folder / "f.heic").write_text("a")
    assert convert(folder, tmp_path / "s", adapter)[0].images == 5
    assert "5 pictures; 2 other files are left out (.heic, .txt)" in capsys.readouterr().out


def test_every_extractor_that_a_help_names_exists():
    """module:Class in docstrings and documents, read without importing their packages."""
    root = pathlib.Path(__file__).parents[3]
    texts = [*root.glob("input_pipeline/**/*.py"), *root.glob("*.md"), *root.glob("docs/*.md")]
    named = {
        match for path in texts for match in re.findall(r"(scripts[.\w]+):(\w+)", path.read_text())
    }
    assert ("scripts.extract_efficientnet", "EfficientNetLite0") in named
    for module, name in named:
        source = (root / f"{module.replace('.', '/')}.py").read_text()
        assert re.search(rf"^class {name}\b", source, re.MULTILINE), f"{module}:{name}"
