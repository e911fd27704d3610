"""Where images are looked up by their ids: the run's own data set, its regions and pictures."""

import re

import pytest
from PIL import Image

from core.errors import DataError
from inference import __main__ as command
from inference.named import NamedImages, OwnImages, Pictures
from input_pipeline.regions import RegionStore
from tests.inference import made_models

IMAGE = "7"


@pytest.fixture
def made():
    return made_models.run("vqa", "data=jsonl,model=vilbert")


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture of one image."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (160, 130), (9, 99, 199)).save(folder / f"{IMAGE}.png")
    return folder


def own(made, **data):
    config = made.config.copy_and_resolve_references()
    with config.unlocked():
        for block in config.streams.values():
            block.data.update(data)
    return OwnImages(config, made_models.SPEC, "runs/x")


def test_the_store_and_the_pictures_of_the_run(made, folder):
    found = own(made, pictures=str(folder)).of("examples")
    assert found.store.keys == RegionStore.open(made_models.files() / "store").keys
    pictures = found.pictures.of([IMAGE, "8"])
    assert pictures["8"] is None
    assert pictures[IMAGE] == (folder / f"{IMAGE}.png").read_bytes()


def test_it_is_opened_once_and_only_where_an_id_is_asked_for(made, monkeypatch):
    opened = []
    real = NamedImages.of_store
    monkeypatch.setattr(NamedImages, "of_store", lambda *args: opened.append(args) or real(*args))
    model = made.model()
    assert not opened
    with pytest.raises(DataError, match="this is no image"):
        model.answer("what is it?", 0.5)
    assert not opened
    for _ in range(2):
        assert model.reader("examples").read(IMAGE).key == IMAGE
    assert len(opened) == 1


def test_a_data_set_that_is_not_here_is_told_with_what_to_do(made, tmp_path):
    with pytest.raises(DataError, match=r"(?s)not here to look it up.*--regions=STORE"):
        own(made, regions=str(tmp_path / "nothing")).of("examples")
    with pytest.raises(DataError, match=r"(?s)not here.*no annotations"):
        own(made, regions="", annotations="").of("examples")


def test_pictures_that_are_not_here_are_told_and_regions_answer_all_the_same(made, capsys):
    assert own(made, pictures="/nowhere").of("examples").pictures is None
    assert "without pictures" in capsys.readouterr().err
    with pytest.raises(DataError, match="no folder of pictures"):
        made.model(pictures="/nowhere")


def test_pictures_are_read_once_and_together():
    asked = []

    def lookup(ids):
        asked.append(list(ids))
        return {"a": b"x"}

    pictures = Pictures(lookup)
    assert pictures.of(["a", "b", "a"]) == {"a": b"x", "b": None}
    assert pictures.of(["b", "a", "c"]) == {"b": None, "a": b"x", "c": None}
    assert asked == [["a", "b"], ["c"]]


def test_named_stores_and_named_pictures_go_first(made, folder):
    model = made.model(regions=str(made_models.files() / "store"), pictures=str(folder))
    assert model.reader("examples").read(IMAGE).picture
    assert model.reader("examples").read("8").picture is None


def test_look_is_a_verb_too(made, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("inference.load", lambda *_, **__: made.model())
    page = tmp_path / "page.html"
    argv = ["RUN", "look", "what is it?", f"--image={IMAGE}", f"--out={page}"]
    assert command.main(argv) == 0
    assert re.search(r"page.html: \d", capsys.readouterr().out)
    assert "what is it?" in page.read_text()
