"""The embedded data set as it is built: what is stored, told and reused."""

import filecmp
import pathlib
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_scenes import draw, find, pictures

from configs import common
from core.errors import DataError
from input_pipeline import datasets
from input_pipeline.datasets import scenes
from input_pipeline.datasets.scenes import captions, detector, foreign, graph, render

COUNTS = {"train": 40, "validation": 12, "test": 8}


def data_config(folder, **changes):
    data = ConfigDict(common.data_block("scenes"))
    data.dir = str(folder)
    data.scenes.update(dict(COUNTS, feature_dim=24) | changes)
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def prepared(folder):
    return datasets.prepare(data_config(folder))


def home(prepared):
    return pathlib.Path(prepared.vocab).parent


def test_a_swapped_text_is_the_foreign_one_of_the_same_image(folder, prepared):
    del prepared  # it is built
    config = data_config(folder)
    config.records = "swapped"
    rows = list(datasets.prepare(config).rows("train"))
    assert len({row.image_id for row in rows}) > 3
    for own, false in zip(rows[::2], rows[1::2], strict=True):
        assert (own.follows, false.follows) == (False, True)
        assert own.foreign == (false.text_id,)
        assert (own.image_id, own.source) == (false.image_id, false.source)
        assert own.text != false.text
    of_first = [row.source for row in rows[::2] if row.image_id == rows[0].image_id]
    assert len(of_first) == len(set(of_first))  # one of each kind


def test_true_objects_are_those_of_the_scenes(prepared):
    classes, attributes = prepared.object_names
    assert (len(classes), len(attributes)) == (30, 4)
    found = list(prepared.objects("validation"))
    drawn = draw("validation", COUNTS["validation"])
    assert [one.image_id for one in found] == [scene.image_id for scene in drawn]
    for one, scene in zip(found, drawn, strict=True):
        assert [classes[i] for i in one.class_ids] == [
            f"{o.colour} {o.shape}" for o in scene.objects
        ]
        assert [attributes[i] for i in one.attribute_ids] == [
            f"{o.size} {o.material}" for o in scene.objects
        ]
        np.testing.assert_array_equal(one.boxes, render.true_boxes(scene))


def test_regions_may_be_another_detectors(folder, prepared):
    config = data_config(folder)
    config.regions = "one, two"
    assert datasets.prepare(config).stores == ["one", "two"]
    assert prepared.stores == [str(home(prepared) / "regions")]


def test_store_and_texts_fit_together(prepared):
    from input_pipeline.regions import RegionStore
    from input_pipeline.texts.tokenizer import Tokenizer

    store = RegionStore.open(prepared.stores)
    assert len(store) == sum(COUNTS.values())
    assert store.spec.detector == detector.NAME
    assert (store.spec.feature_dim, store.spec.dtype) == (24, "bfloat16")
    assert (store.spec.num_classes, store.spec.background_class) == (31, 0)
    words = Tokenizer.load(prepared.vocab)
    assert words.special.mask == 103
    assert set(prepared.splits) == set(COUNTS)
    for split, count in COUNTS.items():
        rows = list(prepared.rows(split))
        assert len({r.text_id for r in rows}) == len(rows) == 5 * count
        assert (store.rows_of([r.image_id for r in rows]) >= 0).all()
        scenes_ = draw(split, count)
        texts = [captions.captions(s, 0) for s in scenes_]
        expected = [c for own in texts for c in own]
        assert [(r.text, r.probe) for r in rows] == [(c.text, c.probe) for c in expected]
        dealt = foreign.deal(scenes_, texts, 0)
        assert [r.foreign for r in rows] == [names for own in dealt for names in own]
        assert {type(name) for r in rows for name in r.foreign} == {str}
        for encoded in words.encode_batch([r.text for r in rows]):
            assert words.special.unk not in encoded.ids
            assert all(encoded.word_starts)  # every word is a piece of its own
    rows = np.arange(8).reshape(8, 1)
    out = store.allocate(8, 1, 8)
    store.read_into(out, rows)
    assert np.isfinite(out["regions"].astype(np.float32)).all()
    assert (out["boxes"] <= graph.WIDTH).all()
    assert len({prepared.fingerprint(s) for s in COUNTS}) == 3


def test_the_store_holds_what_the_detector_says(prepared):
    from input_pipeline.regions import RegionStore

    store = RegionStore.open(prepared.stores)
    scene = graph.draw(0, "validation", 5, 2, 4)
    (found,) = find([scene])
    (features,) = detector.features(pictures([scene]), [found.boxes], 24)
    record = store.read(int(store.rows_of([scene.image_id])[0]))
    np.testing.assert_array_equal(record["boxes"], found.boxes)
    np.testing.assert_allclose(np.asarray(record["features"][1:], np.float32), features, rtol=2**-8)


def test_the_table_keeps_scene_graphs_and_pictures(prepared):
    import tensorflow_datasets as tfds

    from input_pipeline.datasets.scenes import build

    kept = list(build.read_scenes(home(prepared), "validation"))
    assert kept == draw("validation", COUNTS["validation"])
    (version,) = (home(prepared) / build.TABLE).glob("*/*/*")
    data = tfds.builder_from_directory(str(version)).as_dataset(split="validation")
    example = next(iter(data.as_numpy_iterator()))
    np.testing.assert_array_equal(example["picture"], pictures(kept[:1])[0])


def test_the_corpus_is_of_no_split(prepared):
    (path,) = prepared.corpus
    lines = pathlib.Path(path).read_text().splitlines()
    assert len(lines) == 5000
    assert lines[:5] == [c.text for c in captions.captions(draw("corpus", 1)[0], 0)]


def test_two_builds_are_the_same_bytes(prepared, tmp_path):
    again = scenes.prepare(data_config(tmp_path))
    first, second = home(prepared), home(again)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    different = [f for f in files if not filecmp.cmp(first / f, second / f, shallow=False)]
    assert not different
    for split in COUNTS:
        assert list(again.rows(split)) == list(prepared.rows(split))
        assert again.fingerprint(split) == prepared.fingerprint(split)


def test_a_build_is_reused_and_changed_settings_build_anew(prepared, folder, monkeypatch):
    from input_pipeline.datasets.scenes import build

    calls = []
    monkeypatch.setattr(build, "build", lambda options, path: calls.append(path))
    assert scenes.prepare(data_config(folder)).vocab == prepared.vocab
    assert not calls
    for change in ({"seed": 1}, {"max_objects": 5}, {"feature_dim": 25}, {"test": 9}):
        with pytest.raises(DataError, match=r"built\.json"):  # nothing was really built
            scenes.prepare(data_config(folder, **change))
    assert len(set(calls)) == 4


def test_an_unknown_split_is_told(prepared):
    with pytest.raises(DataError, match="validation"):
        prepared.rows("dev")


def test_a_killed_build_is_never_taken_for_a_finished_one(prepared, tmp_path, monkeypatch):
    from input_pipeline.datasets.scenes import build

    data, clean = data_config(tmp_path), shutil.rmtree
    write = build.regions.RegionWriter.add
    # A killed process tidies nothing up: what it leaves must do no harm.
    for victim, name in (
        (build.regions.RegionWriter, "add"),
        (build.tokenizer, "train_wordpiece"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda *a, **k: None)

            def stop(self, image_id, **kwargs):
                if image_id == "validation-000003":
                    raise KeyboardInterrupt
                write(self, image_id, **kwargs)

            def stop_at_once(*args):
                raise KeyboardInterrupt

            patch.setattr(victim, name, stop if name == "add" else stop_at_once)
            with pytest.raises(KeyboardInterrupt):
                scenes.prepare(data)
        left = list((tmp_path / "scenes").iterdir())
        assert left
        assert all(path.name.startswith(".") for path in left)
    again = scenes.prepare(data)
    assert list(again.rows("train")) == list(prepared.rows("train"))
    for path in left:
        clean(path)


def test_questions_and_expressions_are_rows_like_any(folder, prepared):
    config = data_config(folder)
    config.update(records="questions", answer_count=1)
    asked = datasets.prepare(config)
    assert asked.stores == prepared.stores
    assert asked.vocab == prepared.vocab
    rows = list(asked.rows("validation"))
    assert {"yes", "no"} <= set(asked.answers.labels)
    assert all(sorted(row.values) == ["answer_ids", "answer_scores"] for row in rows)
    best = [max(row.values["answer_scores"], default=0) for row in rows]
    assert np.mean(np.asarray(best) == 1) > 0.9  # few answers are of validation alone
    config.records = "expressions"
    meant = datasets.prepare(config)
    assert meant.answers is None
    rows = list(meant.rows("validation"))
    assert all(len(row.values["target_box"]) == 4 for row in rows)
    prints = {p.fingerprint("train") for p in (prepared, asked, meant)}
    assert len(prints) == 3
    config.records = "poems"
    with pytest.raises(DataError, match=r"(?s)unknown records of scenes.*'questions'.*'poems'"):
        datasets.prepare(config)
