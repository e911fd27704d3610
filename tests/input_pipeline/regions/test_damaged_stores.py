"""Stores whose files contradict each other: an error that names the file, never a traceback."""

import json

import numpy as np
import pytest
import xxhash
from made_data import write_store

from core.errors import DataError
from input_pipeline.regions import FeatureSpec, RegionStore, RegionWriter
from input_pipeline.regions.region_writer import content_fingerprint


def changed_manifest(**changes):
    def change(folder):
        path = folder / "manifest.json"
        values = json.loads(path.read_text())
        for key, value in changes.items():
            values[key] = value
            if value is None:
                del values[key]
        path.write_text(json.dumps(values))

    return change


def shard(**changes):
    def change(folder):
        path = folder / "manifest.json"
        values = json.loads(path.read_text())
        values["shards"][0] = {**values["shards"][0], **changes}
        path.write_text(json.dumps(values))

    return change


def text(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def spec(**changes):
    def change(folder):
        values = json.loads((folder / "spec.json").read_text())
        (folder / "spec.json").write_text(json.dumps({**values, **changes}))

    return change


def index(name, row, value):
    """Changes a number of the index, and every hash that guards it."""

    def change(folder):
        with np.load(folder / "index.npz") as arrays:
            found = {key: arrays[key] for key in arrays.files}
        if row is None:
            found[name] = value(found[name])
        else:
            found[name][row] = value
        np.savez(folder / "index.npz", **found)
        values = FeatureSpec.from_dict(json.loads((folder / "spec.json").read_text()))
        digest = xxhash.xxh3_64_hexdigest((folder / "index.npz").read_bytes())
        fingerprint = content_fingerprint(values, found)
        changed_manifest(index_xxh3=digest, fingerprint=fingerprint)(folder)

    return change


DAMAGES = {  # name: (what is changed, what is said)
    "manifest without shards": (changed_manifest(shards=None), "'shards': a list"),
    "manifest without fingerprint": (changed_manifest(fingerprint=None), "'fingerprint': a str"),
    "manifest without hash": (changed_manifest(index_xxh3=None), "'index_xxh3': a str"),
    "manifest of another format": (changed_manifest(format="x" * 10**6), "format 1"),
    "manifest that is a list": (text("manifest.json", b"[]"), "manifest.json.*a list"),
    "deep manifest": (text("manifest.json", b"[" * 10**5), "manifest.json.*Recursion"),
    "manifest of long numbers": (text("manifest.json", b"9" * 5000), "manifest.json.*ValueError"),
    "manifest that is no UTF-8": (text("manifest.json", b'{"a": "\xff"}'), "Unicode"),
    "shard elsewhere": (shard(file="../../../../etc/passwd"), "beside it"),
    "shard that is a number": (shard(file=3), "beside it"),
    "shard without size": (shard(bytes="many"), "beside it"),
    "spec that is a text": (text("spec.json", b'"a"'), "spec.json.*a str"),
    "spec of a text for a size": (spec(feature_dim="8"), "feature_dim.*no number"),
    "spec of a share for a size": (spec(feature_dim=8.5), "feature_dim.*no number"),
    "spec of a huge size": (spec(feature_dim=10**30), "feature_dim.*too large"),
    "spec of an odd background": (spec(background_class="0"), "background_class"),
    "spec of no detector": (spec(detector=None), "detector.*no text"),
    "record beyond its shard": (index("offset", 1, 2**40), "lie within their shards.*record 1"),
    "record before its shard": (index("offset", 1, -8), "lie within their shards.*record 1"),
    "record of another shard": (index("shard", 0, 7), "lie within their shards.*record 0"),
    "record of another size": (index("n", 0, 99), "sizes of the spec.*record 0"),
    "image of no height": (index("height", 2, 0), "record 2"),
    "short column": (index("n", None, lambda column: column[:-1]), r"n: int32 \("),
    "column of another type": (index("n", None, lambda column: column.astype("f8")), "float64"),
    "keys beyond the bytes": (index("keys", None, lambda column: column[:1]), "damaged"),
    "index that is no archive": (text("index.npz", b"PK"), "index.npz"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_stores(tmp_path, name):
    write_store(tmp_path / "s")
    change, said = DAMAGES[name]
    change(tmp_path / "s")
    with pytest.raises(DataError, match=f"(?s){said}") as caught:
        RegionStore.open(tmp_path / "s")
    assert str(tmp_path / "s") in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_what_the_index_cannot_hold_is_refused_before_it_is_written(tmp_path):
    values = FeatureSpec(detector="toy", feature_dim=4)
    image = dict(boxes=np.zeros((1, 4)), features=np.ones((1, 4)), height=9, width=9)
    with RegionWriter(tmp_path / "s", values) as writer:
        for changes, said in (
            (dict(height=2**31), "size is out of range.*2,147,483,647"),
            (dict(width=10**5000), "size is out of range"),
            (dict(height=-1), "out of range"),
            (dict(height=9.5), "cannot be stored"),
            (dict(features=3.0), "features have the wrong shape"),
            (dict(features=np.zeros((1, 4))), "all features of the image are zero"),
            (dict(features=np.asarray([["a"] * 4])), "cannot be stored"),
            (dict(boxes="no boxes"), "boxes"),
        ):
            with pytest.raises(DataError, match=f"(?s){said}"):
                writer.add("a", **{**image, **changes})
        for image_id, said in (
            ("\ud800", "no Unicode text"),
            ("x" * 5000, "too long"),
            ("", "no text"),
        ):
            with pytest.raises(DataError, match=f"(?s){said}"):
                writer.add(image_id, **image)
        writer.add("a", **image)
    assert RegionStore.open(tmp_path / "s").keys == ["a"]
