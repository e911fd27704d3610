"""Pictures beside a store: the contact sheet, class names, names of files."""

import time

import numpy as np
import pytest
from made_regions import C, made
from PIL import Image

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
    assert "1 pictures of --pictures cannot be read, first: a picture" in capsys.readouterr().out


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


def test_pictures_of_every_kind_of_fault_end_in_findings(tmp_path, capsys, monkeypatch):
    arrays = made()
    names = [f"{i:03d}" for i in range(len(arrays["paths"]))]
    names[5] = "x" * 4000  # longer than a file's name may be
    np.savez(tmp_path / "a.npz", **{**arrays, "paths": np.asarray(names)})
    folder = tmp_path / "p"
    pictures(folder, arrays)
    with Image.open(folder / "000.png") as picture:
        # One entry: the orientation as a text of three letters.
        text = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04up!\0\0\0\0\0"
        picture.save(folder / "000.png", exif=b"Exif\0\0" + text)
        picture.save(folder / "001.png", exif=b"Exif\0\0MM\0\x2a\0\0\0\xff\xff")
    whole = (folder / "002.png").read_bytes()
    (folder / "002.png").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr("core.pictures.MAX_PIXELS", 4 * 10**5)
    Image.new("RGB", (1000, 1000)).save(folder / "003.png")
    command = ["inspect", str(tmp_path / "a.npz"), "--layout", "npz", "--images", "all"]
    command += ["--pictures", str(folder), "--sheet", str(tmp_path / "s.png")]
    start = time.process_time()
    assert main(command) == 1
    assert time.process_time() - start < 10
    captured = capsys.readouterr()
    assert "1 pictures of --pictures cannot be read, first: a picture is too large" in captured.out
    assert "12 pictures in" in captured.out


def test_what_ids_hold_is_harmless(tmp_path, capsys):
    """A terminal does not obey them."""
    arrays = made()
    arrays["paths"] = np.asarray([f"\x1b[2J\x9b31m\u202e{i}" for i in range(len(arrays["paths"]))])
    arrays["boxes"][0] = np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    main(["inspect", str(tmp_path / "a.npz"), "--layout", "npz"])
    out = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e") & set(out)
