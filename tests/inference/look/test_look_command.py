"""The command line: what a page shows is what the model said of what a stream reads."""

import base64
import dataclasses
import functools
import json
import re
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

import inference
import vl_models
from checkpoints import run_config, share
from configs import models, vcr, vlbert_pretrain
from inference.look import inputs
from inference.look.__main__ import main
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore, RegionWriter
from vl_models import loading

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cube", "ball", "##s", "is"]
SPEC = FeatureSpec("toy", feature_dim=6, num_classes=4, background_class=0, top_k=4)
SMALL = dict(hidden=16, heads=2, intermediate=16, layers=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with an image of 5 regions and one of 1."""
    folder, rs = tmp_path_factory.mktemp("look") / "store", np.random.RandomState(0)
    with RegionWriter(folder, SPEC) as writer:
        for name, count in (("seen", 5), ("small", 1)):
            corner = rs.uniform(0, 40, (count, 2))
            writer.add(
                name,
                boxes=np.concatenate([corner, corner + 20], 1),
                features=rs.standard_normal((count, 6)).astype(np.float32),
                height=80,
                width=100,
                class_probs=rs.dirichlet(np.ones(4), count).astype(np.float32),
            )
    return str(folder)


def saved(folder, config, tasks=0):
    """A model with random parameters as a shared folder."""
    block = run_config.restored(config).model
    trunk = vl_models.build_trunk(
        block,
        vl_models.TrunkSpec(
            vocab_size=len(PIECES),
            feature_dim=SPEC.feature_dim,
            text_only=False,
            masked_regions=False,
            dtype=np.float32,
        ),
    )
    batch = dict(
        text_ids=np.zeros((1, 1, 4), np.int32),
        text_mask=np.ones((1, 1, 4), bool),
        segment_ids=np.zeros((1, 1, 4), np.int32),
        regions=np.zeros((1, 1, 3, 6), np.float32),
        boxes=np.ones((1, 1, 3, 4), np.float32),
        region_mask=np.ones((1, 1, 3), bool),
        image_size=np.ones((1, 1, 2), np.float32),
    )
    if tasks:
        batch["task_id"] = np.zeros(1, np.int32)
    init = functools.partial(trunk.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), batch)["params"]
    rs = np.random.RandomState(1)
    arrays = {
        f"trunk/{name}": 0.3 * rs.standard_normal(one.shape).astype(np.float32)
        for name, one in loading.flatten(shapes).items()
    }
    metadata = dict(feature_spec=SPEC.to_dict())
    share.write(folder, share.Shared(arrays, config, metadata, PIECES, None, 1, "a test"))
    return str(folder)


def config_of(module, argument, stream, **options):
    config = module.get_config(argument)
    config.model.update(SMALL)
    config.streams[stream].update(options)
    return json.loads(json.dumps(config.to_dict(), default=list))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """VL-BERT as pre-trained on captions: 6 places for words and 5 for regions, 10 together."""
    config = config_of(vlbert_pretrain, "", "captions", max_text=6, max_regions=5, max_length=10)
    return saved(tmp_path_factory.mktemp("look") / "run", config)


@pytest.fixture(scope="module")
def two_streams(tmp_path_factory):
    """ViLBERT with task tokens, of which nothing but the model is known, as published."""
    block = models.block("vilbert", "mini", connections=1) | dict(tasks=3)
    return saved(tmp_path_factory.mktemp("look") / "two", dict(model=block), tasks=3)


def content_of(path):
    text = path.read_text()
    return json.loads(re.search('id="content">(.*?)</script>', text)[1])


def look(tmp_path, *words, **options):
    """(exit status, content of the page)."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    path = tmp_path / "page.html"
    status = main([*words, *flags, f"--out={path}"])
    return status, content_of(path) if path.exists() else None


def first_map(content):
    found = content["attention"]
    one = found["maps"][0]
    shape = (one["heads"], *(stop - start for start, stop in (one["queries"], one["keys"])))
    data = zlib.decompress(base64.b64decode(found["blob"]))
    rows = shape[0] * shape[1]
    scales = np.frombuffer(data, "<f4", rows).reshape(*shape[:2], 1)
    start = 4 * found["scales"]
    values = np.frombuffer(data, np.uint8, rows * shape[2], start).reshape(shape)
    return values / 255 * scales


def test_a_page_holds_what_the_model_said_of_what_a_stream_reads(tmp_path, run, store, capsys):
    status, found = look(tmp_path, run, "red cubes is a ball", image="seen", regions=store)
    assert status == 0
    out = capsys.readouterr().out
    assert "3 word pieces had no room" in out
    assert "1 region had no room" in out
    assert re.search(r"page.html: 0\.\d\d MB", out)
    # 8 pieces and 6 regions: cut to 6 and 5, then to 10 together, the larger side first.
    words = [one["text"] for one in found["tokens"] if one["kind"] == "word"]
    assert words == ["[CLS]", "red", "cube", "s", "[SEP]", "[END]"]
    assert [one.get("joined") for one in found["tokens"]][:5] == [False, False, False, True, False]
    # By hand: the batch of five pieces and of five regions, most certain first.
    opened = RegionStore.open(store)
    record = {key: array.copy() for key, array in opened.read(0).items()}
    order = np.argsort(-record["probs"][:, 0], kind="stable")[:4]
    features = opened.features_of(record)[np.concatenate([[0], order + 1])]
    boxes = np.concatenate([[[0, 0, 99, 79]], record["boxes"][order]]).astype(np.float32)
    batch = dict(
        text_ids=np.int32([[[2, 6, 7, 9, 3]]]),
        text_mask=np.ones((1, 1, 5), bool),
        segment_ids=np.zeros((1, 1, 5), np.int32),
        regions=features[None, None],
        boxes=boxes[None, None],
        region_mask=np.ones((1, 1, 5), bool),
        image_size=np.float32([[[80, 100]]]),
    )
    expected = inference.load(run)(batch, capture=("attention",))["attention"][0][0]
    given = first_map(found)
    assert given.shape == expected.shape == (2, 11, 11)
    np.testing.assert_allclose(given, expected, atol=0.004)
    regions = [one for one in found["tokens"] if one["kind"] == "region"]
    np.testing.assert_allclose([one["box"] for one in regions[1:]], boxes[1:], atol=0.06)
    best = [(ids != 0).argmax() for ids in record["class_ids"][order]]
    labels = [f"class {ids[b]}" for ids, b in zip(record["class_ids"][order], best, strict=True)]
    assert [one["text"] for one in regions[1:]] == [f"{i} {x}" for i, x in enumerate(labels, 1)]
    assert regions[1]["score"] == pytest.approx(record["probs"][order[0]][best[0]], abs=1e-4)


def test_a_published_model_of_two_streams_with_tasks(tmp_path, two_streams, store, capsys):
    flags = dict(image="seen", regions=store)
    assert look(tmp_path, two_streams, "a cube", **flags) == (1, None)
    assert "a number from 0 to 2" in capsys.readouterr().err
    status, found = look(tmp_path, two_streams, "a cube", task_id=1, **flags)
    assert status == 0
    assert [one["text"] for one in found["tokens"]][:5] == ["[CLS]", "[TASK]", "a", "cube", "[SEP]"]
    kinds = [one["kind"] for one in found["attention"]["maps"]]
    assert kinds == ["text", "text", "text_to_image", "image_to_text", "text", "image"]
    assert len(found["tokens"]) == 5 + 6
    assert not [note for note in found["notes"] if "room" in note]


def test_an_image_of_one_region(tmp_path, two_streams, store):
    status, found = look(tmp_path, two_streams, "a", image="small", regions=store, task_id=0)
    assert status == 0
    assert sum(one["kind"] == "region" for one in found["tokens"]) == 2
    panels = [[len(panel["places"]) for panel in stage] for stage in found["attention"]["stages"]]
    assert panels == [[4, 2]] * 4


def test_a_question_with_a_choice(store, tmp_path):
    config = config_of(vcr, "model=vlbert", "examples", max_text=16)
    model = inference.load(saved(tmp_path / "vcr", config))
    place = inputs.reader(model, store=RegionStore.open(store))
    made = inputs.make(place, "seen", "is a ball", second="red cube")
    assert made.pieces == ["[CLS]", "is", "a", "ball", "[SEP]", "red", "cube", "[SEP]"]
    assert made.cut == (0, 0)
    segments = made.batch["segment_ids"][0, 0][made.batch["text_mask"][0, 0]]
    assert segments.tolist() == [0] * 5 + [1] * 3
    with pytest.raises(ValueError, match="--second="):
        inputs.make(place, "seen", "is a ball")
    with pytest.raises(ValueError, match=r"one of \['examples'\]"):
        inputs.reader(model, "captions")


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("a cube",), dict(image="other"), "does not know it.*'seen', 'small'"),
        ((" ",), {}, "a text is empty"),
        (("a cube",), dict(second="red"), "reads one text"),
        (("a cube",), dict(task="text"), r"expected: one of \['captions'"),
        (("a cube",), dict(task_id=0), "has no task tokens"),
        (("a cube",), dict(picture="/nowhere.png"), "a picture cannot be read"),
        (("a cube",), dict(pictures="/nowhere"), "no folder of pictures"),
        (("a cube",), dict(class_names=__file__), "class names and classes disagree"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_written(
    tmp_path, run, store, capsys, words, options, message
):
    flags = dict(image="seen", regions=store) | options
    assert look(tmp_path, run, *words, **flags) == (1, None)
    assert re.search(message, capsys.readouterr().err, re.DOTALL)


def test_features_of_another_kind(tmp_path, run, store, capsys):
    with RegionWriter(tmp_path / "wide", dataclasses.replace(SPEC, feature_dim=7)) as writer:
        writer.add(
            "x",
            boxes=np.float32([[1, 1, 9, 9]]),
            features=np.ones((1, 7), np.float32),
            height=20,
            width=20,
            class_probs=np.full((1, 4), 0.25, np.float32),
        )
    assert look(tmp_path, run, "a cube", image="x", regions=tmp_path / "wide") == (1, None)
    assert "feature_dim=6 (the model)" in capsys.readouterr().err


def test_a_store_alone_with_names_and_a_picture(tmp_path, store):
    (tmp_path / "names.txt").write_text("cube\nball\ncone\n")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (100, 80), (9, 99, 199)).save(tmp_path / "pictures" / "seen.png")
    flags = dict(image="seen", regions=store, class_names=tmp_path / "names.txt")
    status, found = look(tmp_path, pictures=tmp_path / "pictures", **flags)
    assert status == 0
    assert found["attention"] is None
    assert found["notes"] == []
    assert found["picture"]["uri"].startswith("data:image/png;base64,")
    regions = found["tokens"][1:]
    record = RegionStore.open(store).read(0)
    assert len(regions) == 5
    np.testing.assert_allclose([one["box"] for one in regions], record["boxes"], atol=0.06)
    assert {one["text"].split()[1] for one in regions} <= {"cube", "ball", "cone"}


def test_arguments_that_do_not_fit_end_the_program(tmp_path, run, capsys):
    for words, message in (
        ((run, "--image=seen"), "with RUN comes a text"),
        (("--image=seen",), "name the region store"),
        (("--image=seen", "--regions=x", "--task_id=1"), "are for a model"),
    ):
        with pytest.raises(SystemExit):
            main([*words, f"--out={tmp_path / 'page.html'}"])
        assert message in capsys.readouterr().err
