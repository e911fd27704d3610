"""HDF5 files of regions in all their kinds: what is read, what is refused."""

import json
import pickle
import tracemalloc

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

from core.errors import DataError
from input_pipeline.importers import hdf5, run
from input_pipeline.importers.settings import ImportSettings

N = 4
IMAGES = [made(i) for i in range(N)]
IDS = ["30", "10", "20", "40"]


def write(path, values):
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            if value is not None:
                file[name] = value
    return str(path)


def padded(values, rows=3):
    out = np.zeros((len(values), rows, values[0].shape[1]), np.float32)
    for row, value in zip(out, values, strict=True):
        row[: len(value)] = value
    return out


def stacked(**changes):
    """ViLBERT's older files."""
    values = {
        "image_ids": np.asarray([int(name) for name in IDS]),
        "num_boxes": np.asarray([len(image["boxes"]) for image in IMAGES]),
        "features": padded([image["features"] for image in IMAGES]),
        "boxes": padded([image["boxes"] for image in IMAGES]),
        "cls_prob": padded([image["class_probs"] for image in IMAGES]),
        "image_w": np.full(N, 60),
        "image_h": np.full(N, 40),
    }
    return {**values, **changes}


def joined(**changes):
    """Adaptive numbers of boxes, as converters for bottom-up attention write them."""
    ends = np.cumsum([len(image["boxes"]) for image in IMAGES])
    values = {
        "image_features": np.concatenate([image["features"] for image in IMAGES]),
        "image_bb": np.concatenate([image["boxes"] for image in IMAGES]),
        "spatial_features": np.concatenate([shares(image) for image in IMAGES]),
        "pos_boxes": np.stack([np.concatenate([[0], ends[:-1]]), ends], 1).astype(np.int32),
    }
    return {**values, **changes}


def groups(**changes):
    """Volta's files; HDF5 sorts the groups by name."""
    values = {}
    for name, image in zip(IDS, IMAGES, strict=True):
        values[f"{name}/features"] = image["features"]
        values[f"{name}/boxes"] = image["boxes"]
        values[f"{name}/obj_id"] = np.zeros(len(image["boxes"]), np.int64)
        values[f"{name}/img_w"], values[f"{name}/img_h"] = 60, 40
    return {**values, **changes}


def id_map(path, value=None):
    value = {int(name): row for row, name in enumerate(IDS)} if value is None else value
    if str(path).endswith(".json"):
        path.write_text(json.dumps(value))
    else:
        path.write_bytes(pickle.dumps(value, 2))
    return str(path)


def write_sizes(path, ids=IDS):
    path.write_text("".join(f"{name}\t40\t60\n" for name in ids))
    return str(path)


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


def test_links_within_a_file_are_followed(tmp_path):
    path = write(tmp_path / "a.h5", {"kept": 0, **stacked()})
    with h5py.File(path, "a") as file:
        file.move("features", "all")
        file["features"] = h5py.SoftLink("/all")
    check_store(tmp_path / "s", "hdf5", [path], IDS, IMAGES)


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
