"""A source that is deeper than the model: an error, or its first layers on purpose."""

import dataclasses

import numpy as np
import pytest

from checkpoints import depth, initial_values, transfer
from checkpoints.sources import Source, SourceError


def source(layers=5, image_layers=0, kind="bert"):
    """Layers told apart by their values."""
    arrays = {"trunk/embeddings/word/embedding": np.zeros((4, 2), np.float32)}
    for name, count in (("layer", layers), ("image_layer", image_layers)):
        for i in range(count):
            arrays[f"trunk/{name}_{i}/mlp/norm/scale"] = np.full(2, i + 1, np.float32)
    names = {path: path.replace("trunk/layer_", "encoder.layer.") for path in arrays}
    return Source("theirs", kind, arrays, names)


def shapes(layers=3, image_layers=0):
    return {path: np.zeros_like(x) for path, x in source(layers, image_layers).arrays.items()}


@pytest.mark.parametrize("model", ["vlbert", "vilbert"])
def test_the_first_layers_of_a_bert(model):
    fitted = transfer.fit(source(), nested(shapes()), model=model, layers="first")
    got = [fitted.arrays[f"trunk/layer_{i}/mlp/norm/scale"][0] for i in range(3)]
    assert got == [1, 2, 3]
    assert fitted.layers == ["layers 0 to 2 of the source taken, 3 to 4 dropped"]
    kept = initial_values.add(fitted, source(), nested(shapes()), lambda arrays, known: {})
    assert kept.layers == fitted.layers
    why = {line.name: line.note for line in fitted.report if line.fate == "dropped"}
    expected = "the model has the first 3 of 5 layers"
    assert why == {f"encoder.layer.{i}/mlp/norm/scale": expected for i in (3, 4)}


def test_a_run_of_the_same_model_gives_the_first_of_both_streams():
    run = source(4, 3, kind="run")
    fitted = transfer.fit(run, nested(shapes(2, 1)), model="vilbert", layers="first")
    assert fitted.layers == [
        "image_layers 0 of the source taken, 1 to 2 dropped",
        "layers 0 to 1 of the source taken, 2 to 3 dropped",
    ]
    assert sorted(fitted.arrays) == sorted(shapes(2, 1))


def test_as_deep_a_source_is_taken_whole():
    fitted = transfer.fit(source(3), nested(shapes()), model="vlbert", layers="first")
    assert not fitted.layers
    assert not [line for line in fitted.report if line.fate == "dropped"]


def test_another_depth_is_an_error_that_names_the_flag():
    with pytest.raises(SourceError, match=r"layers: 5 in the source, 3 in the model; .*first 3"
                       r" alone: --config.init_layers=first"):  # fmt: skip
        transfer.fit(source(), nested(shapes()), model="vlbert")
    with pytest.raises(SourceError, match="layers: 2 in the source, 3 in the model") as no:
        transfer.fit(source(2), nested(shapes()), model="vlbert", layers="first")
    assert depth.FLAG not in str(no.value)  # no flag makes layers that are not there


def test_a_layer_missing_in_the_middle_is_an_error():
    given = source()
    arrays = {path: x for path, x in given.arrays.items() if "layer_1" not in path}
    with pytest.raises(SourceError, match="layers: 2 in the source, 3 in the model"):
        transfer.fit(
            dataclasses.replace(given, arrays=arrays),
            nested(shapes()),
            model="vlbert",
            layers="first",
        )


def nested(flat):
    out = {}
    for path, array in flat.items():
        *folders, name = path.split("/")
        at = out
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = array
    return out
