"""Pictures beside a store: the contact sheet, class names, names of files."""

import numpy as np
import pytest
from PIL import Image
from test_doctor_inspect import C, made

from core.errors import DataError
from input_pipeline.doctor import sheet as sheets
from input_pipeline.doctor.__main__ import main


def pictures(folder, arrays, rename="{:03d}.png", turn=()):
    folder.mkdir(parents=True)
    for i, (height, width) in enumerate(arrays["hw"].tolist()):
        size = (height, width) if i in turn else (width, height)
        Image.new("RGB", size, (90, 90, 90)).save(folder / rename.format(i))
    return str(folder)


def test_sheet(tmp_path, capsys):
    arrays = made()
    np.savez(tmp_path / "a.npz", **arrays)
    (tmp_path / "names.txt").write_text("".join(f"thing{i},alias\n" for i in range(C - 1)))
    plain = ["inspect", str(tmp_path / "a.npz"), "--layout", "npz"]
    drawn = [*plain, "--sheet", str(tmp_path / "s.png")]
    command = [*drawn, "--class_names", str(tmp_path / "names.txt"), "--pictures"]
    assert main([*command, pictures(tmp_path / "p" / "val", arrays)]) == 0
    assert "12 pictures in" in capsys.readouterr().out
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (4 * 450 + 10, 3 * 364 + 10)
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(2**20)}
    assert (0xE6, 0x19, 0x4B) in colours  # the box of the best region
    turned = pictures(tmp_path / "q" / "val", arrays, turn=(3, 4))
    # Two pictures that are the other way round are seen.
    assert main([*plain, "--pictures", turned]) == 1
    out = capsys.readouterr().out
    assert "2 pictures have another size than stored, 2 of them height and width swapped" in out
    assert main([*command, pictures(tmp_path / "r" / "val", arrays, "9{:03d}.png")]) == 1
    assert "no picture of the images looked at" in capsys.readouterr().err
    assert main([*drawn, "--images", "2"]) == 1
    assert "no pictures to draw on" in capsys.readouterr().err
    for option in ("--sheet", "--json"):
        assert main([*plain, option, "/no/such/x.png", "--pictures", turned]) == 1
        assert "no folder '/no/such'" in capsys.readouterr().err
    (tmp_path / "q" / "val" / "000.png").write_bytes(b"no picture")
    assert main([*plain, "--pictures", turned]) == 1
    assert "a picture cannot be read" in capsys.readouterr().err


def test_class_names():
    assert sheets.names_by_column([], 2, 0) == ["class 0", "class 1"]
    assert sheets.names_by_column(["a", "b"], 2, 0) == ["a", "b"]
    assert sheets.names_by_column(["a", "b"], 3, 0) == ["background", "a", "b"]
    assert sheets.names_by_column(["a", "b"], 3, 2) == ["a", "b", "background"]
    with pytest.raises(DataError, match=r"(?s)5 names, or 4 without.*3 names"):
        sheets.names_by_column(["a", "b", "c"], 5, 0)


def test_pictures_that_differ_are_none_and_copies_are_one(tmp_path):
    for folder, colour in (("a", 0), ("b", 9), ("c", 9)):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 3), colour).save(tmp_path / folder / "7.png")
        Image.new("L", (4, 3)).save(tmp_path / folder / "8.png")
    found = sheets.Pictures(str(tmp_path))
    assert not found.has("7")
    assert found.size("a/7.png") == (3, 4)
    assert found.find("8") == tmp_path / "a" / "8.png"
    assert found.find("9") is None
    with pytest.raises(DataError, match="no pictures"):
        sheets.Pictures(str(tmp_path / "absent"))
