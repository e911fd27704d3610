"""A checkpoint only goes with the features and the vocabulary it was trained on."""

import types

import pytest

from core.errors import DataError
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.schema import SpecialIds
from training import data_metadata


def data(vocab="a/vocab.txt", fingerprint="1", detector="one", answers=(), labels=()):
    spec = FeatureSpec(detector=detector, feature_dim=8, num_classes=3, background_class=0,
                       global_feature="mean", dtype="float32", top_k=3, max_regions=4)  # fmt: skip
    one = types.SimpleNamespace(
        spec=spec,
        special=SpecialIds(0, 1, 2, 3, 4, 9),
        prepared=types.SimpleNamespace(
            vocab=vocab,
            answers=types.SimpleNamespace(labels=answers) if answers else None,
            labels=labels,
        ),
        tokenizer=types.SimpleNamespace(fingerprint=fingerprint, vocab={"[PAD]": 0}),
    )
    return {"examples": one}


def test_the_same_data_passes_wherever_its_vocabulary_lies():
    here, saved = data(vocab="b/vocab.txt"), data_metadata.of(data())
    assert {key for key, value in data_metadata.of(here).items() if saved[key] != value} == {
        "vocab"
    }
    data_metadata.require_same(here, saved, "run")


def test_another_vocabulary_is_refused_naming_both():
    with pytest.raises(DataError, match=r"another vocabulary(?s:.*)a/vocab.txt(?s:.*)b/vocab.txt"):
        data_metadata.require_same(data("b/vocab.txt", "2"), data_metadata.of(data()), "run")


def test_other_features_are_refused_naming_both():
    with pytest.raises(DataError, match=r"(?s)one.*two|two.*one"):
        data_metadata.require_same(data(detector="two"), data_metadata.of(data()), "run")


def test_another_list_of_answers_is_refused_unless_it_is_to_be_mapped():
    saved = data_metadata.of(data(answers=("yes", "no")))
    data_metadata.require_same(data(answers=("yes", "no")), saved, "run")
    other = data(answers=("no", "yes"))
    with pytest.raises(DataError, match=r"another list of answers(?s:.*)--config\.data\.answers"):
        data_metadata.require_same(other, saved, "run")
    data_metadata.require_same(other, saved, "run", vocabulary=False)


def test_another_list_of_classes_is_refused():
    saved = data_metadata.of(data(labels=("cat", "dog")))
    data_metadata.require_same(data(labels=("cat", "dog")), saved, "run")
    with pytest.raises(DataError, match=r"(?s)another list of classes.*\['cat', 'dog'\].*\['dog"):
        data_metadata.require_same(data(labels=("dog", "cat")), saved, "run")
    before = {key: value for key, value in saved.items() if key != "labels"}
    data_metadata.require_same(
        data(labels=("dog", "cat")), before, "run"
    )  # runs of before know none


def test_streams_with_data_sets_of_their_own_are_compared_one_by_one():
    both = data(answers=("yes", "no")) | {"labelled": data(labels=("cat", "dog"))["examples"]}
    saved = data_metadata.of(both)
    assert saved["answers"] == ["yes", "no"]
    assert saved["streams"]["labelled"] == dict(answers=None, labels=["cat", "dog"])
    data_metadata.require_same(both, saved, "run")
    other = both | {"labelled": data(labels=("dog", "cat"))["examples"]}
    saved["labels"] = ["dog", "cat"]
    with pytest.raises(DataError, match=r"(?s)another list of classes.*stream 'labelled'"):
        data_metadata.require_same(other, saved, "run")
