"""Detectors in and out: the published layout by the golden file's rule, and ours."""

import dataclasses
import functools
import json

import golden_files
import jax
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from checkpoints import detector
from checkpoints.state_files import SourceError
from core.errors import DataError
from vl_models.published import faster_rcnn as published
from vl_models.vision import faster_rcnn
from vl_models.vision.canvas import Pixels
from vl_models.vision.faster_rcnn import Selection
from vl_models.vision.resnet import BLOCKS


@functools.cache
def golden():
    file = golden_files.Golden(golden_files.files("faster_rcnn_vg.npz")[0])
    return file, file.state_dict({})


def write_published(folder, *, sections=None, **extra):
    """The golden file as published, with these sections of its config; None: all."""
    file, state = golden()
    folder.mkdir()
    save_file({**state, **extra}, folder / "model.safetensors")
    config = file.meta["config"]
    if values := {k.lower(): config[k] for k in (config if sections is None else sections)}:
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return str(folder)


@functools.cache
def shapes_of(sizes):
    return jax.eval_shape(lambda: faster_rcnn.initial_parameters(sizes, jax.random.key(0)))


def test_published_folder_with_its_config(tmp_path):
    found = detector.load(write_published(tmp_path / "frcnn"))
    file, state = golden()
    golden_files.fitted(shapes_of(found.sizes)["params"], found.arrays)  # every parameter, no other
    assert found.sizes.resnet.blocks == BLOCKS[50]
    assert (found.sizes.classes, found.sizes.attributes, found.sizes.hidden) == (12, 7, 16)
    assert found.sizes.anchor_sizes == (16, 32, 64, 96)
    assert found.sizes.resnet.max_pool == "caffe"
    assert found.selection == Selection(200, 20, 0.7, (0.3, 0.5, 0.7), 4, 9)
    assert found.pixels == Pixels(mean=tuple(file.meta["config"]["MODEL"]["PIXEL_MEAN"]))
    kernel = state["backbone.res3.1.conv2.weight"]
    np.testing.assert_array_equal(
        found.arrays["backbone/res3/block_1/conv2/kernel"], kernel.transpose(2, 3, 1, 0)
    )


def test_what_arrays_alone_do_not_tell(tmp_path):
    place = write_published(tmp_path / "bare", sections=())
    with pytest.raises(SourceError, match=r"12 anchors a cell.*config\.yaml"):
        detector.load(place)
    found = detector.load(write_published(tmp_path / "some", sections=("ANCHOR_GENERATOR",)))
    assert found.sizes.anchor_sizes == (16, 32, 64, 96)
    assert found.selection == Selection()
    anchors = found.sizes.cell_anchors
    agreeing = write_published(tmp_path / "kept", **{published.ANCHORS: anchors})
    assert len(detector.load(agreeing).arrays) == len(found.arrays)
    other = write_published(tmp_path / "other", **{published.ANCHORS: anchors * 2})
    with pytest.raises(SourceError, match="anchors other than"):
        detector.load(other)


def test_another_model_is_refused(tmp_path):
    place = write_published(tmp_path / "more", **{"roi_heads.mask.weight": np.zeros(3)})
    with pytest.raises(SourceError, match=r"roi_heads\.mask\.weight"):
        detector.load(place)
    (tmp_path / "more" / "config.yaml").write_text("- 1\n")
    with pytest.raises(SourceError, match=r"config\.yaml"):
        detector.load(place)


def test_ours_comes_back_as_it_was(tmp_path):
    made = dataclasses.replace(
        detector.load(write_published(tmp_path / "frcnn")),
        objects=[f"object {i}" for i in range(12)],
        attributes=list("abcdefg"),
        pixels=Pixels(128, 256),
    )
    folder = tmp_path / "ours"
    detector.save(folder, made)
    back = detector.load(str(folder))
    for field in ("sizes", "selection", "pixels", "origin"):
        assert getattr(back, field) == getattr(made, field)
    assert list(back.objects) == made.objects
    assert back.arrays.keys() == made.arrays.keys()
    assert all(np.array_equal(back.arrays[p], x) for p, x in made.arrays.items())
    assert back.digest() == made.digest()
    with pytest.raises(DataError, match="exists"):
        detector.save(folder, made)


def test_a_damaged_folder_is_told(tmp_path):
    folder = tmp_path / "ours"
    detector.save(folder, detector.load(write_published(tmp_path / "frcnn")))
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        detector.load(str(folder))
    about = json.loads((folder / "detector.json").read_text())
    about["sizes"]["colour"] = 1
    (folder / "detector.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="colour"):
        detector.load(str(folder))
