"""HDF5 files of regions that are refused: damaged, never written, leading to other files."""

import tracemalloc

import h5py
import numpy as np
import pytest
from layout_checks import (
    F,
    check_refused,
)
from made_hdf5 import N, groups, id_map, joined, stacked, write, write_sizes

from core.errors import DataError
from input_pipeline.importers import hdf5, run
from input_pipeline.importers.settings import ImportSettings


def filled(name, at, value):
    array = stacked()[name].copy()
    array[at] = value
    return stacked(**{name: array})


BAD = {
    "no features": (stacked(features=None), r"no known kind.*'boxes'"),
    "no boxes": (stacked(boxes=None), r"lacks the field 'boxes'"),
    "features of integers": (stacked(features=np.ones((N, 3, F), int)), r"'features'.*floats.*int"),
    "axes": (stacked(features=np.ones((N, F), np.float32)), r"number of axes.*\(4, 8\)"),
    "lengths": (stacked(boxes=stacked()["boxes"][:3]), r"differ in length.*/boxes.*4 rows.*\(3"),
    "ids": (stacked(image_ids=np.arange(3)), r"differ in length.*/image_ids"),
    "float ids": (stacked(image_ids=np.ones(N)), r"image_ids\[0\].*whole number.*1\.0"),
    "no ids": (stacked(image_ids=None), r"ids of the rows are not known.*--id_map"),
    "num_boxes": (stacked(num_boxes=np.full(N, 4)), r"'num_boxes'.*at most 3.*found: 4"),
    "no regions": (filled("num_boxes", 1, 0), r"number of regions.*image '10'.*found: 0"),
    "columns": (stacked(boxes=np.ones((N, 3, 5))), r"'boxes'.*\(3, 4\).*\(3, 5\)"),
    "boxes of text": (stacked(boxes=np.full((N, 3, 4), b"x")), r"'boxes'.*wrong shape or type"),
    "nan": (filled("features", (1, 0, 2), np.nan), r"not finite.*image '10'"),
    "xywh": (filled("boxes", (2, 0), [30, 20, 10, 10]), r"corners swapped.*image '20'"),
    "outside": (filled("boxes", (2, 0), [30, 20, 90, 30]), r"outside its image.*image '20'"),
    "sum": (filled("cls_prob", (1, 0, 0), 2), r"no distribution.*image '10'"),
    "size": (filled("image_h", 0, 0), r"'height'.*>= 1.*0"),
    "half a size": (stacked(image_h=None), r"lacks the field 'height'"),
    "empty": ({"image_ids": [], "features": np.zeros((0, 3, F), "f4")}, "no images"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_stacked_files(tmp_path, name):
    values, message = BAD[name]
    path = write(tmp_path / "bad.h5", values)
    assert "bad.h5" in check_refused(tmp_path / "s", "hdf5", [path], message)


def test_bad_images_are_left_out(tmp_path):
    values = groups(**{"20/boxes": None, "40/features": np.ones((1, 2, F), "f4")}, stray=[1.0])
    path = write(tmp_path / "a.h5", values)
    check_refused(tmp_path / "s", "hdf5", [path], r"lacks.*'boxes'.*image '20'.*'features'")
    done = run.convert("hdf5", [path], tmp_path / "s", ImportSettings(on_bad="skip"))
    assert (done.images, done.skipped) == (2, 3)
    assert "'stray'" in (tmp_path / "s" / "skipped.jsonl").read_text()


MAPS = (
    {1: 0, 2: 1, 3: 2},
    {1: 0, 2: 0, 3: 1, 4: 2},
    {1: 1, 2: 2, 3: 3, 4: 4},
    {1: "a", 2: 1, 3: 2, 4: 3},
    {1.5: 0, 2: 1, 3: 2, 4: 3},
    [1, 1, 2, 3],
    [1, 2, 3, 4, 5],
    7,
)


@pytest.mark.parametrize("value", MAPS)
def test_maps_that_do_not_fit(tmp_path, value):
    path = write(tmp_path / "a.h5", joined())
    message = r"ids\.pkl.*(4 ids, one for each row|\{id: row\}|whole number)"
    options = {"id_map": id_map(tmp_path / "ids.pkl", value)}
    check_refused(tmp_path / "s", "hdf5", [path], message, **options)


class Malicious:
    def __reduce__(self):
        return print, ("run",)


def test_a_malicious_map_is_not_run(tmp_path, capsys):
    path = write(tmp_path / "a.h5", joined())
    options = {"id_map": id_map(tmp_path / "ids.pkl", {1: Malicious()})}
    check_refused(tmp_path / "s", "hdf5", [path], r"ids\.pkl.*print", **options)
    assert "run" not in capsys.readouterr().out
    (tmp_path / "ids.json").write_text("{")
    options = {"id_map": str(tmp_path / "ids.json")}
    check_refused(tmp_path / "s", "hdf5", [path], r"malformed JSON.*ids\.json", **options)
    options = {"id_map": str(tmp_path / "nowhere.pkl")}
    check_refused(tmp_path / "s", "hdf5", [path], r"nothing at this path", **options)


def test_a_map_for_a_file_with_ids(tmp_path):
    options = {"id_map": id_map(tmp_path / "ids.pkl")}
    for name, values in (("a.h5", stacked()), ("b.h5", groups())):
        path = write(tmp_path / name, values)
        check_refused(tmp_path / "s", "hdf5", [path], "ids from two places", **options)


def test_bad_joined_files(tmp_path):
    options = {"id_map": id_map(tmp_path / "ids.pkl")}
    bounds = joined()["pos_boxes"]
    for message, changes in {
        r"pos_boxes\[1\].*0 <= start <= stop <= 7.*\[5, 3\]": {
            "pos_boxes": np.concatenate([bounds[:1], [[5, 3]], bounds[2:]])
        },
        r"stop <= 7.*\[6, 9\]": {"pos_boxes": np.concatenate([bounds[:3], [[6, 9]]])},
        r"'pos_boxes'.*\(None, 2\)": {"pos_boxes": np.arange(N)},
        r"pixels and as shares.*disagree": {"image_bb": joined()["image_bb"][::-1]},
    }.items():
        path = write(tmp_path / "a.h5", joined(**changes))
        check_refused(tmp_path / "s", "hdf5", [path], message, **options)
    narrow = joined(image_bb=None, spatial_features=joined()["spatial_features"][:, :3])
    path = write(tmp_path / "a.h5", narrow)
    options["sizes"] = write_sizes(tmp_path / "hw.tsv")
    check_refused(tmp_path / "s", "hdf5", [path], r"'spatial_features'.*4 columns.*3", **options)


@pytest.mark.parametrize("keep", [0, 100, 2000, -1])
def test_cut_files(tmp_path, keep):
    path = tmp_path / "a.h5"
    write(path, stacked())
    path.write_bytes(path.read_bytes()[:keep])
    check_refused(tmp_path / "s", "hdf5", [path], r"not a readable HDF5 file.*a\.h5")


def test_damaged_data(tmp_path):
    """A checksum of the file's own is checked, and a compressed block that does not unpack."""
    for options in ({"fletcher32": True}, {"compression": "gzip"}):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            for name, value in stacked().items():
                file.create_dataset(name, data=value, **(options if name == "features" else {}))
            chunk = file["features"].id.get_chunk_info(0)
        data = bytearray(path.read_bytes())
        for at in range(chunk.byte_offset, chunk.byte_offset + 8):
            data[at] ^= 0xFF
        path.write_bytes(data)
        check_refused(tmp_path / "s", "hdf5", [path], r"record 0.*filter|record 0.*checksum")
    with pytest.raises(DataError, match="nothing to import"):
        hdf5.Layout([])


def unwritten_chunk(file):
    """What a killed extraction leaves: room for all images, numbers of some."""
    values = stacked()["features"]
    del file["features"]
    data = file.create_dataset("features", values.shape, "f4", chunks=(1, *values.shape[1:]))
    data[:2] = values[:2]


def unwritten(file):
    shape = file["features"].shape
    del file["features"]
    file.create_dataset("features", shape, "f4")


def virtual(file):
    shape = file["features"].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("gone.h5", "features", shape)
    del file["features"]
    file.create_virtual_dataset("features", layout)


def external_storage(file):
    values = stacked()["features"]
    del file["features"]
    file.create_dataset("features", values.shape, "f4", external=[("/etc/passwd", 0, 10**6)])


def external_link(file):
    del file["features"]
    file["features"] = h5py.ExternalLink("other.h5", "/features")


def link_over_a_link(file):
    del file["features"]
    file["other"] = h5py.ExternalLink("other.h5", "/")
    file["features"] = h5py.SoftLink("/other/features")


def circle(file):
    del file["features"]
    file["features"] = h5py.SoftLink("/features")


@pytest.mark.parametrize(
    "hide", [virtual, external_storage, external_link, link_over_a_link, circle]
)
def test_other_files_are_not_read(tmp_path, hide):
    write(tmp_path / "other.h5", stacked())
    path = write(tmp_path / "a.h5", stacked())
    with h5py.File(path, "a") as file:
        hide(file)
    check_refused(tmp_path / "s", "hdf5", [path], r"leads to other files.*/(features|other)\n")


@pytest.mark.parametrize("hide", [unwritten_chunk, unwritten])
def test_numbers_that_were_never_written(tmp_path, hide):
    path = write(tmp_path / "a.h5", stacked())
    with h5py.File(path, "a") as file:
        hide(file)
    check_refused(tmp_path / "s", "hdf5", [path], r"never written.*/features.*did not finish")
    if hide is unwritten_chunk:
        settings = ImportSettings(on_bad="skip")
        done = run.convert("hdf5", [path], tmp_path / "s", settings)
        assert (done.images, done.skipped) == (2, 2)


def test_declared_sizes_cost_nothing(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        shape = (1, 2**16, 2**13)  # 2 GB an image, packed twice into some kB
        file["image_ids"], file["num_boxes"] = [1], [1]
        data = file.create_dataset("features", shape, "f4", chunks=(1, 2**12, 2**13))
        data.id.write_direct_chunk((0, 0, 0), b"x")
    assert path.stat().st_size < 10**4
    tracemalloc.start()
    check_refused(tmp_path / "s", "hdf5", [path], "larger than any image's.*at most")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
