"""Streams of pictures: scaled, mirrored and padded as their boxes are, in a few shapes."""

import numpy as np
import pytest
from made_data import ASSEMBLE, SPEC, captions, config, image, write_images, write_jsonl
from PIL import Image

from core.errors import ConfigError, DataError
from input_pipeline.pictures import build
from input_pipeline.schema import check_batch
from input_pipeline.streams import canvases, pipeline

# Lying, standing, lying and square.
SIZES = [(90, 120), (120, 90), (80, 120), (100, 100), (90, 120), (120, 90), (90, 120), (90, 120)]


def write(folder, sizes=SIZES, pictures=SIZES):
    write_images(
        folder / "store",
        SPEC,
        *((f"img{i}", image(i) | dict(height=h, width=w)) for i, (h, w) in enumerate(sizes)),
    )
    write_jsonl(folder / "captions.jsonl", captions(len(sizes)))
    (folder / "files").mkdir()
    for i, (height, width) in enumerate(pictures):
        Image.fromarray(picture(i, height, width)).save(folder / "files" / f"img{i}.png")
    build.build(build.from_paths([str(folder / "files")]), str(folder / "pictures"))
    return folder


def picture(i, height, width):
    """Red tells the row, green the column, blue the image."""
    out = np.full((height, width, 3), 10 + i, np.uint8)
    out[..., 0] = 50 + np.arange(height)[:, None]
    out[..., 1] = 50 + np.arange(width)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pixels"))


def tree(folder, **options):
    data = dict(pictures=str(folder / "pictures")) | options.pop("data", {})
    made = config(folder, stream=options, **data)
    made.model = dict(features="pixels")
    return made


def training(folder, **options):
    made = tree(folder, **options)
    return pipeline.build_streams(made, ASSEMBLE, image_margin=1)["captions"]


def test_pictures_come_as_their_boxes_do(folder):
    stream = training(folder, flip="boxes", resize=(60, 100))
    mirrored = set()
    for draw in range(8):
        batch = stream.batch(draw)
        check_batch(batch, where="test")
        assert "regions" not in batch
        assert batch["images"].shape[2:4] in {(60, 100), (100, 60), (100, 100)}
        for found, (height, width), key in zip(
            batch["images"][:, 0], batch["image_size"][:, 0].astype(int), batch["image_key"][:, 0],
            strict=True,
        ):  # fmt: skip
            original = picture(key, *SIZES[key])
            scaled = np.asarray(
                Image.fromarray(original).resize((width, height), Image.Resampling.BILINEAR)
            )
            is_mirrored = int(found[0, 0, 1]) > int(found[0, width - 1, 1])
            mirrored.add(is_mirrored)
            expected = scaled[:, ::-1] if is_mirrored else scaled
            np.testing.assert_array_equal(found[:height, :width], expected)
            assert not found[height:].any()
            assert not found[:, width:].any()
        # Green at a box's left end tells its column in the original, also where it is mirrored.
        first = batch["boxes"][:, 0, 1]
        for n, key in enumerate(batch["image_key"][:, 0]):
            row, width = batch["images"][n, 0, 5], int(batch["image_size"][n, 0, 1])
            ratio = width / SIZES[key][1]
            left, right = first[n, 0], first[n, 2]
            is_mirrored = int(row[0, 1]) > int(row[width - 1, 1])
            seen = row[int(right if is_mirrored else left), 1] - 50.0
            stored = stream.store.read(int(key))["boxes"]
            probs = stream.store.read(int(key))["probs"][:, 0]
            assert abs(seen - stored[np.argsort(-probs, kind="stable")[0], 0]) < 2.5 / ratio
    assert mirrored == {False, True}


def test_batches_of_one_canvas_and_the_same_on_all_hosts(folder):
    stream = training(folder, resize=(60, 100), batch_size=4)
    shapes = [stream.batch(draw)["images"].shape[2:4] for draw in range(8)]
    assert set(shapes) <= {(60, 100), (100, 60), (100, 100)}
    assert shapes.count((100, 100)) < len(shapes) / 2
    for draw in range(8):
        whole = stream.batch(draw)["images"]
        parts = [stream.batch(draw, (i, 4))["images"] for i in range(4)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    again = training(folder, resize=(60, 100), batch_size=4)
    assert again.fingerprint == stream.fingerprint
    assert training(folder, resize=(60, 90)).fingerprint != stream.fingerprint
    seen = np.concatenate([stream.batch(draw)["example_index"] for draw in range(4)])
    assert sorted(seen) == list(range(16))


def test_evaluation_keeps_its_order_and_has_room_for_another_image(folder):
    made = tree(folder, resize=(60, 100))
    stream = pipeline.build_evaluation(
        made, "captions", ASSEMBLE, split="train", batch_size=3, other_image=True, image_margin=1
    )
    batches = [stream.batch(draw) for draw in range(stream.steps_per_epoch)]
    indices = np.concatenate([b["example_index"][b["_weight"] > 0] for b in batches])
    assert indices.tolist() == list(range(16))
    for batch in batches:
        assert batch["images"].shape[1] == 2
        sizes = batch["image_size"]
        assert (sizes <= batch["images"].shape[2:4]).all()
        blue = batch["images"][:, :, 0, 0, 2]
        np.testing.assert_array_equal(blue, 10 + batch["image_key"])


def test_without_resize_the_largest_picture_is_the_canvas(folder):
    assert training(folder).batch(0)["images"].shape[2:4] == (120, 120)
    options = tree(folder, canvases=((90, 120), (120, 90))).streams.captions
    assert canvases.planned(options) == ((90, 120), (120, 90), (120, 120))
    with pytest.raises(ConfigError, match=r"(?s)larger than every canvas.*120 x 90"):
        training(folder, canvases=((90, 120), (80, 80)))
    two = training(folder, canvases=((90, 120), (120, 90), (100, 100)), batch_size=2)
    assert {two.batch(n)["images"].shape[2:4] for n in range(8)} <= {
        (90, 120), (120, 90), (100, 100), (120, 120)
    }  # fmt: skip


def test_what_is_missing_or_of_another_size_is_said_before_the_first_step(tmp_path):
    (tmp_path / "few").mkdir()
    folder = write(tmp_path / "few", pictures=SIZES[:6])
    with pytest.raises(DataError, match=r"(?s)no picture.*2 of 8: 'img6', 'img7'.*on_missing=skip"):
        training(folder)
    stream = training(folder, data=dict(on_missing="skip"))
    assert stream.num_examples == 12
    with pytest.raises(DataError, match="no picture store"):
        training(folder, data=dict(pictures=str(folder / "files")))
    with pytest.raises(DataError, match="no picture store is named"):
        training(folder, data=dict(pictures=""))
    (tmp_path / "halved").mkdir()
    halved = [(h // 2, w // 2) for h, w in SIZES]
    folder = write(tmp_path / "halved", pictures=halved)
    message = r"(?s)pictures of another size.*img0.*90 x 120.*45 x 60, 8 of 8.*0\.500 times"
    with pytest.raises(DataError, match=message):
        training(folder)
    (tmp_path / "turned").mkdir()
    folder = write(tmp_path / "turned", pictures=[(w, h) for h, w in SIZES])
    with pytest.raises(DataError, match="as they lie on disk, not upright"):
        training(folder)
