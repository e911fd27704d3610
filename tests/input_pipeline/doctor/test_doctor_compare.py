"""`doctor compare`: the same features, rounded ones, another detector's."""

import base64
import json

import numpy as np
import pytest
from made_data import write_images
from made_regions import C, F, made, store_of

from core.errors import DataError
from input_pipeline.doctor import options
from input_pipeline.doctor.__main__ import main
from input_pipeline.doctor.compare import compare
from input_pipeline.doctor.sources import open_source
from input_pipeline.importers import known
from input_pipeline.regions import FeatureSpec


def raw(tmp_path, name, arrays):
    np.savez(tmp_path / f"{name}.npz", **arrays)
    return open_source([str(tmp_path / f"{name}.npz")], "npz", {"background_class": 0})


def _same(a):
    pass


def _reordered(a):
    """Another order of the regions: the matching must find it."""
    for i in range(len(a["paths"])):
        rows, start = slice(i * 12, (i + 1) * 12), i * 13 + 1
        for name, part in (("boxes", rows), ("cls_prob", rows), ("feat", slice(start, start + 12))):
            a[name][part] = a[name][part][::-1]


def _half(a):
    a["feat"] = a["feat"].astype(np.float16)


def _resized(a):
    """Images of twice the size."""
    a["hw"] = a["hw"] * 2
    a["boxes"] *= 2


def _noisy(a):
    a["feat"] += np.random.default_rng(5).standard_normal(a["feat"].shape).astype(np.float32)


def _scaled(a):
    a["feat"] *= 2


def _other(a):
    a.update({k: v for k, v in made(9).items() if k != "paths"})


def _other_size(a):
    a["feat"] = a["feat"][:, :5]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (_same, "same features"),
        (_reordered, "same features"),
        (_resized, "same features"),
        (_half, "same features, rounded"),
        (_noisy, "same boxes, different features"),
        (_scaled, "same boxes, different features"),
        (_other, "different detector"),
        (_other_size, "different detector"),
    ],
)
def test_verdict(tmp_path, change, verdict):
    arrays = made()
    change(arrays)
    result = compare(raw(tmp_path, "a", made()), raw(tmp_path, "b", arrays))
    assert result.verdict == verdict
    assert result.statistics["images"] == 20
    assert result.same == (verdict in ("same features", "same features, rounded"))


def test_same_detector_other_regions(tmp_path):
    arrays = made()
    arrays["boxes"][::3] = arrays["boxes"][::3] * 0.5  # within their images still
    result = compare(raw(tmp_path, "a", made()), raw(tmp_path, "b", arrays))
    assert result.verdict == "same detector, other regions"
    assert 0.5 < result.statistics["same_box"] < 0.8


def test_figures(tmp_path):
    arrays = made()
    _scaled(arrays)
    statistics = compare(raw(tmp_path, "a", made()), raw(tmp_path, "b", arrays)).statistics
    assert statistics["mean_iou"] == pytest.approx(1)
    assert statistics["matched"] == statistics["same_box"] == statistics["same_order"] == 1
    assert statistics["cosine"]["0.5"] == pytest.approx(1)
    assert statistics["norm_ratio"]["0.5"] == pytest.approx(2)
    assert statistics["relative_error"]["0.99"] == pytest.approx(1)
    turned = made()
    _reordered(turned)
    statistics = compare(raw(tmp_path, "a", made()), raw(tmp_path, "c", turned)).statistics
    assert (statistics["same_box"], statistics["same_order"]) == (1, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_stores_and_files(tmp_path, dtype):
    (tmp_path / "f").mkdir()
    plain = open_source([store_of(tmp_path / "f", made(), dtype="float32")])
    (tmp_path / "n").mkdir()
    narrow = open_source([store_of(tmp_path / "n", made(), dtype=dtype)])
    assert compare(plain, narrow, images=7).verdict == "same features, rounded"
    assert compare(plain, narrow, images=7).statistics["images"] == 7
    file = raw(tmp_path, "a", made())
    for pair in ((file, plain), (plain, file)):
        result = compare(*pair)
        assert result.verdict == "same features"
        assert result.statistics["a"] == pair[0].name
    assert compare(file, narrow).statistics["dtype"] == [["float32"], [dtype]]


def test_command_and_ids(tmp_path, capsys):
    arrays = made()
    np.savez(tmp_path / "a.npz", **arrays)
    arrays["paths"] = np.asarray([f"COCO_{i:012d}" for i in range(20)])
    np.savez(tmp_path / "b.npz", **arrays)
    command = ["compare", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--layout", "npz"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "the two share no image" in err
    assert "'val/000.jpg' and 'COCO_000000000000'" in err
    out = tmp_path / "out.json"
    assert main([*command, "--ids", "number", "--json", str(out)]) == 0
    assert "verdict         same features" in capsys.readouterr().out
    assert json.loads(out.read_text())["verdict"] == "same features"


def test_zero_features_are_no_error(tmp_path):
    arrays = made()
    arrays["feat"][1:5] = 0
    result = compare(raw(tmp_path, "a", arrays), raw(tmp_path, "b", arrays))
    assert result.verdict == "same features"


def test_damaged_image_is_an_error(tmp_path):
    spec = FeatureSpec("toy", F, C, 0)
    one = made()
    arguments = {
        "boxes": one["boxes"][:12],
        "features": one["feat"][1:13],
        "height": int(one["hw"][0, 0]),
        "width": int(one["hw"][0, 1]),
        "class_probs": one["cls_prob"][:12],
    }
    for name in ("a", "b"):
        write_images(tmp_path / name, spec, ("x", arguments))
    shard = tmp_path / "b" / "shard-00000.bin"
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        compare(open_source([str(tmp_path / "a")]), open_source([str(tmp_path / "b")]))


def in_two_layouts(folder):
    """The same two images as bottom-up TSV and as VinVL's rows, which need sizes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = {"bu.tsv": [], "vinvl.tsv": [], "hw.tsv": []}
    for name in ("1", "2"):
        low = rng.uniform(0, 20, (30, 2))
        boxes = np.concatenate([low, low + rng.uniform(5, 20, (30, 2))], 1).astype("<f4")
        features = rng.standard_normal((30, 2048)).astype("<f4")
        shares = boxes / np.asarray([60, 40, 60, 40], "<f4")
        place = np.concatenate([features, shares, shares[:, 2:] - shares[:, :2]], 1).astype("<f4")
        text = [base64.b64encode(array.tobytes()).decode() for array in (boxes, features, place)]
        lines["bu.tsv"].append([name, "60", "40", "30", text[0], text[1]])
        lines["vinvl.tsv"].append([name, "30", text[2]])
        lines["hw.tsv"].append([name, "40", "60"])
    for name, rows in lines.items():
        (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows))
    return [str(folder / name) for name in lines]


def test_a_layout_and_options_for_each_side(tmp_path, capsys):
    bottom_up, vinvl, sizes = in_two_layouts(tmp_path / "in")
    # Without any layout named, each side's is found; --sizes is for the side that has it.
    for given in (
        ["--sizes", sizes],
        ["--b_sizes", sizes],
        ["--layout_a", "bottom_up_tsv", "--layout_b", "vinvl_tsv", "--sizes", sizes],
        ["--layout_b=vinvl_tsv", f"--b_sizes={sizes}", "--a_feature_dim=2048"],
    ):
        assert main(["compare", *given, bottom_up, vinvl]) == 0
        assert "verdict         same features" in capsys.readouterr().out
    assert main(["compare", vinvl, bottom_up, "--a_sizes", sizes]) == 0
    capsys.readouterr()
    assert main(["compare", bottom_up, vinvl, "--a_sizes", sizes]) == 1
    assert "bottom_up_tsv: a layout has no option --sizes" in capsys.readouterr().err
    assert main(["compare", bottom_up, bottom_up, "--sizes", sizes]) == 1
    assert "no side of a comparison has an option" in capsys.readouterr().err


def test_inspect_takes_a_layouts_options_without_its_name(tmp_path, capsys):
    bottom_up, vinvl, sizes = in_two_layouts(tmp_path / "in")
    assert main(["inspect", "--sizes", sizes, vinvl]) == 0
    assert "vinvl_tsv fits, and no other" in capsys.readouterr().out
    assert main(["inspect", vinvl]) == 1
    assert "vinvl_tsv: the size of an image is not known" in capsys.readouterr().err
    assert main(["inspect", bottom_up, "--num_classes", "many"]) == 1
    assert "expected a whole number, found 'many'" in capsys.readouterr().err
    assert main(["inspect", bottom_up, "--layout", "bottom_up_tsv", "--sizes", sizes]) == 1
    assert "a layout has no option --sizes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", "--layout", "vinvl_tsv", "--help"])
    assert "without the six columns of the place" in " ".join(capsys.readouterr().out.split())


def test_options_of_all_layouts_are_of_one_kind():
    """A flag in one layout is no option with a value in another: a command takes them all."""
    kinds = {}
    for layout in known():
        for action in options._parser(layout)._actions:
            assert kinds.setdefault(action.dest, action.nargs) == action.nargs, action.dest
    assert kinds["transpose"] == 0
