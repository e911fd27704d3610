"""HDF5 files of regions in all their kinds: what is read."""

import h5py
import numpy as np
import pytest
from layout_checks import (
    C,
    F,
    check_items,
    check_parts,
    check_refused,
    check_store,
    items,
    made,
    shares,
)
from made_hdf5 import IDS, IMAGES, N, groups, id_map, joined, stacked, write, write_sizes

from core.errors import DataError
from input_pipeline.importers import hdf5, run
from input_pipeline.importers.settings import ImportSettings


def order(names):
    return [IMAGES[IDS.index(name)] for name in names]


@pytest.mark.parametrize("text_ids", [False, True])
def test_stacked(tmp_path, text_ids):
    changes = {"image_ids": np.asarray(IDS, dtype=object)} if text_ids else {}
    path = write(tmp_path / "a.h5", stacked(**changes))
    layout = hdf5.Layout([path])
    check_items(items(layout), IDS, IMAGES)
    check_parts(layout)
    store = check_store(tmp_path / "s", "hdf5", [path], IDS, IMAGES)
    assert (store.spec.num_classes, store.spec.background_class) == (C, 0)


def test_fixed_number_of_boxes_as_shares(tmp_path):
    images = [made(i, 3) for i in range(N)]
    values = {
        "image_features": np.stack([image["features"] for image in images]),
        "spatial_features": np.stack([shares(image) for image in images]),
    }
    path = write(tmp_path / "train36.hdf5", values)
    options = {"id_map": id_map(tmp_path / "ids.pkl"), "sizes": write_sizes(tmp_path / "hw.tsv")}
    check_items(items(hdf5.Layout([path], **options)), IDS, images, classes=False)
    check_store(tmp_path / "s", "hdf5", [path], IDS, images, **options)


@pytest.mark.parametrize("value", [None, IDS, {name: row for row, name in enumerate(IDS)}])
@pytest.mark.parametrize("suffix", [".pkl", ".json"])
def test_joined_with_maps_of_ids(tmp_path, value, suffix):
    path = write(tmp_path / "a.h5", joined())
    layout = hdf5.Layout([path], id_map=id_map(tmp_path / f"ids{suffix}", value))
    check_items(items(layout), IDS, IMAGES, classes=False)  # size from pixels and shares
    check_parts(layout)


def test_joined_without_shares_or_pixels(tmp_path):
    options = {"id_map": id_map(tmp_path / "ids.pkl"), "sizes": write_sizes(tmp_path / "hw.tsv")}
    for name in ("spatial_features", "image_bb"):
        path = write(tmp_path / f"{name}.h5", joined(**{name: None}))
        check_items(items(hdf5.Layout([path], **options)), IDS, IMAGES, classes=False)
    files = [tmp_path / "image_bb.h5"]
    check_store(tmp_path / "s", "hdf5", files, IDS, IMAGES, **options)


def test_groups(tmp_path):
    path = write(tmp_path / "a.h5", groups())
    layout = hdf5.Layout([path])
    check_items(items(layout), sorted(IDS), order(sorted(IDS)), classes=False)
    check_parts(layout)
    check_store(tmp_path / "s", "hdf5", [path], sorted(IDS), order(sorted(IDS)))


def test_keys(tmp_path):
    values = {}
    for name, image in zip(IDS, IMAGES, strict=True):
        values[f"{name}_features"] = image["features"]
        values[f"{name}_boxes"] = image["boxes"]
        values[f"{name}_cls_prob"] = image["class_probs"]
    path = write(tmp_path / "a.h5", values)
    options = {"sizes": write_sizes(tmp_path / "hw.tsv")}
    check_items(items(hdf5.Layout([path], **options)), sorted(IDS), order(sorted(IDS)))
    check_store(tmp_path / "s", "hdf5", [path], sorted(IDS), order(sorted(IDS)), **options)
    check_refused(tmp_path / "t", "hdf5", [path], r"size of an image is not known.*--sizes FILE")
    options = {"sizes": write_sizes(tmp_path / "hw.tsv", IDS[1:])}
    check_refused(tmp_path / "t", "hdf5", [path], r"image '30'.*not in --sizes", **options)


def test_several_files_and_their_maps(tmp_path):
    a, b = write(tmp_path / "a.h5", joined()), write(tmp_path / "b.h5", joined())
    maps = [id_map(tmp_path / "a.pkl"), id_map(tmp_path / "b.pkl", ["5", "6", "7", "8"])]
    ids = [*IDS, "5", "6", "7", "8"]
    check_store(tmp_path / "s", "hdf5", [a, b], ids, IMAGES * 2, id_map=",".join(maps))
    check_refused(tmp_path / "t", "hdf5", [a, b], "2 files.*1 files", id_map=maps[0])
    options = {"id_map": ",".join([maps[0]] * 2)}
    with pytest.raises(DataError, match=r"(?s)occurs twice.*a\.h5.*b\.h5"):
        run.convert("hdf5", [a, b], tmp_path / "t", ImportSettings(options=options))
    assert not (tmp_path / "t").exists()


def test_padding_by_zeros(tmp_path):
    path = write(tmp_path / "a.h5", stacked(num_boxes=None))
    check_refused(tmp_path / "s", "hdf5", [path], r"zeros.*image '30'.*from row 1.*--trim_zeros")
    check_items(items(hdf5.Layout([path], trim_zeros=True)), IDS, IMAGES)


def test_sizes_in_datasets_of_their_own(tmp_path):
    """DLCT: ID_size is [1, 2] height and width; ID_grids and ID_mask are not regions."""
    values = {}
    for name, image in zip(IDS, IMAGES, strict=True):
        values |= {f"{name}_features": image["features"], f"{name}_boxes": image["boxes"],
                   f"{name}_size": np.asarray([[40, 60]]), f"{name}_grids": np.ones((49, F), "f4"),
                   f"{name}_mask": np.ones((len(image["boxes"]), 49))}  # fmt: skip
    path = write(tmp_path / "a.hdf5", values)
    found = sorted(items(hdf5.Layout([path])), key=lambda item: IDS.index(item.image_id))
    check_items(found, IDS, IMAGES, classes=False)


def test_links_within_a_file_are_followed(tmp_path):
    path = write(tmp_path / "a.h5", {"kept": 0, **stacked()})
    with h5py.File(path, "a") as file:
        file.move("features", "all")
        file["features"] = h5py.SoftLink("/all")
    check_store(tmp_path / "s", "hdf5", [path], IDS, IMAGES)
