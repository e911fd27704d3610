"""Picture stores: what goes in comes out, and what is wrong is named."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from core.errors import DataError
from input_pipeline.datasets.reading import pictures as lookups
from input_pipeline.doctor import __main__ as doctor
from input_pipeline.pictures import __main__ as command
from input_pipeline.pictures.store import PictureStore, is_store


def pixels_of(i, height=20, width=30):
    return np.random.RandomState(i).randint(0, 256, (height, width, 3)).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        save(tmp_path / "pictures" / f"train/COCO_{i:012d}.png", pixels_of(i, 20 + i))
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def build(*arguments):
    return command.main(["build", *map(str, arguments)])


def test_a_folder_and_an_archive(folder, tmp_path, capsys):
    data = io.BytesIO()
    Image.fromarray(pixels_of(9, 8, 8)).convert("L").save(data, "JPEG")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("val/grey.jpg", data.getvalue())
        archive.writestr("__MACOSX/val/grey.jpg", b"of another system")
    assert build(folder, tmp_path / "more.zip", "--out", tmp_path / "store") == 0
    assert "pictures   4" in capsys.readouterr().out
    store = PictureStore.open(tmp_path / "store")
    names = [f"train/COCO_{i:012d}" for i in range(3)]
    assert store.keys == [*names, "val/grey"]
    assert store.heights.tolist() == [20, 21, 22, 8]
    assert store.rows_of([names[1] + ".png", "nothing"]).tolist() == [1, -1]
    np.testing.assert_array_equal(store.pixels(1), pixels_of(1, 21))
    assert store.pixels(3).shape == (8, 8, 3)  # grey as RGB
    expected = Image.fromarray(pixels_of(2, 22)).resize((15, 11), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(store.pixels(2, (11, 15)), np.asarray(expected))
    assert store.read(3) == data.getvalue()
    assert is_store(tmp_path / "store")
    assert not is_store(folder)
    assert command.main(["verify", str(tmp_path / "store")]) == 0
    assert doctor.main(["verify", str(tmp_path / "store")]) == 0
    (tmp_path / "ids.txt").write_text("val/grey\ntrain/COCO_000000000007\n")
    assert doctor.main(["coverage", str(tmp_path / "store"), str(tmp_path / "ids.txt")]) == 1
    assert "missing: 'train/COCO_000000000007'" in capsys.readouterr().out
    found = lookups.of_store(store)(["val/grey.jpg", "nothing"])
    assert found == {"val/grey.jpg": data.getvalue()}


def test_ids_that_are_numbers(folder, tmp_path):
    assert build(folder, "--out", tmp_path / "store", "--ids", "number") == 0
    assert PictureStore.open(tmp_path / "store").keys == ["0", "1", "2"]


def test_bad_pictures_are_listed_and_end_the_work_or_are_left_out(folder, tmp_path, capsys):
    whole = (folder / "train/COCO_000000000000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture at all")
    deep = Image.fromarray((np.arange(600, dtype=np.uint16) * 100).reshape(20, 30))
    deep.save(folder / "deep.png")
    assert build(folder, "--out", tmp_path / "store") == 1
    said = capsys.readouterr().err
    assert "3 of 6 that are not, listed above" in said
    for name, what in (("cut.png", ""), ("text.jpg", "another kind"), ("deep.png", "I;16")):
        assert name in said
        assert what in said
    assert not (tmp_path / "store").exists()
    assert build(folder, "--out", tmp_path / "store", "--on_bad", "skip") == 0
    assert len(PictureStore.open(tmp_path / "store")) == 3


def test_pictures_are_upright_and_of_four_colours(tmp_path):
    marked = np.zeros((20, 30, 3), np.uint8)
    marked[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by the camera: to be turned clockwise
    save(tmp_path / "in/turned.jpg", marked, exif=exif, quality=95)
    Image.fromarray(marked).convert("CMYK").save(tmp_path / "in/cmyk.jpg", quality=95)
    assert build(tmp_path / "in", "--out", tmp_path / "store") == 0
    store = PictureStore.open(tmp_path / "store")
    assert store.keys == ["cmyk", "turned"]
    assert (store.heights.tolist(), store.widths.tolist()) == ([20, 30], [30, 20])
    assert store.pixels(1)[:8].min() > 200  # what was left is on top
    assert abs(store.pixels(0).astype(int) - marked).mean() < 12


@pytest.mark.parametrize("damage", ["byte", "cut", "index", "kind"])
def test_damage_is_named(folder, tmp_path, damage):
    build(folder, "--out", tmp_path / "store")
    shard, index = tmp_path / "store/shard-00000.bin", tmp_path / "store/index.npz"
    data = bytearray(shard.read_bytes())
    if damage == "byte":
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        store = PictureStore.open(tmp_path / "store")
        with pytest.raises(DataError, match=r"(?s)damaged.*COCO_000000000001.*xxh3"):
            [store.read(row) for row in range(3)]
        assert command.main(["verify", str(tmp_path / "store")]) == 1
        return
    if damage == "cut":
        shard.write_bytes(data[:-1])
    elif damage == "index":
        index.write_bytes(index.read_bytes()[:-1])
    else:
        (tmp_path / "store/manifest.json").write_text('{"format": 1}')
    message = "no picture store" if damage == "kind" else "a picture store is damaged"
    with pytest.raises(DataError, match=message):
        PictureStore.open(tmp_path / "store")


def test_what_cannot_be_built_is_said(folder, tmp_path, capsys):
    assert build(tmp_path / "nothing", "--out", tmp_path / "store") == 1
    assert "no such path" in capsys.readouterr().err
    assert build("--out", tmp_path / "store") == 1
    assert "found: neither" in capsys.readouterr().err
    assert build(folder, folder, "--out", tmp_path / "store") == 1
    assert "two pictures have one id" in capsys.readouterr().err
    build(folder, "--out", tmp_path / "store")
    assert build(folder, "--out", tmp_path / "store") == 1
    assert "exists already" in capsys.readouterr().err
    build(folder, "--out", tmp_path / "again")
    with pytest.raises(DataError, match="in two folders of a picture store"):
        PictureStore.open([tmp_path / "store", tmp_path / "again"])
