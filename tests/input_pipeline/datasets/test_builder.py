"""TFDS tables of official data sets: what is built is what comes back; and rows from either."""

import pathlib
import subprocess
import sys

import pytest
from entities_data import region, write_regions
from made_data import ASSEMBLE, SPEC, image, leftovers, write_images
from official_data import WORDS, config, write_coco

from core.errors import DataError
from input_pipeline import datasets
from input_pipeline.datasets import (
    coco_captions,
    conceptual_captions,
    records,
    visual_genome_regions,
)
from input_pipeline.datasets.reading import builder, stretches
from input_pipeline.datasets.reading.files import NoSuchSplit
from input_pipeline.streams import pipeline
from input_pipeline.texts.rows import Row, Skipped

ROOT = pathlib.Path(__file__).parents[3]


def write_cc(folder, rows=40):
    folder.mkdir(exist_ok=True)
    lines = [f"{WORDS[i % 10]} {i}\thttp://x/{i}" for i in range(rows)]
    (folder / "GCC-1.1.0-Validation.tsv").write_text("\n".join(lines))
    return str(folder)


def test_features_follow_the_records():
    tfds_builder = pytest.importorskip("input_pipeline.datasets.reading.tfds_builder")
    kinds = (records.Caption, records.Question, records.MultipleChoice, records.Pointing)
    for kind in (*kinds, records.GroundedCaption):
        features = tfds_builder.feature(kind)
        assert set(features) == {field.name for field in kind.__dataclass_fields__.values()}
    with pytest.raises(TypeError, match="no TFDS feature"):
        tfds_builder.feature(dict[str, int])


TOKEN = records.Token
CHOICES = (
    records.MultipleChoice(
        "val-0",
        "a/b.jpg",
        100,
        200,
        question=(TOKEN("is"), TOKEN("", (0, 1)), TOKEN("?")),
        answers=((TOKEN("é"),), (), (TOKEN("", (1,)), TOKEN("no"))),
        rationales=(),
        answer_label=-1,
        rationale_label=2,
        objects=(
            records.ObjectBox("dog", (0.1, 2.0, 1 / 3, 1e-9), 0.3, (((0.1, 0.2), (3.0, 4.0)), ())),
            records.ObjectBox("cat", (0.0, 0.0, 1.0, 1.0)),
        ),
    ),
    records.MultipleChoice("val-1", "c", 1, 1, (), (), (), 0, 0, ()),
)


def test_records_of_every_shape_are_built_and_read(tmp_path, monkeypatch):
    """Three levels of tuples, empty ones, floats to the last bit; a split with a hyphen."""
    module = type(sys)("input_pipeline.datasets.made_choices")
    module.__doc__, module.SPLITS = "Made up.", ("val", "test-dev2015", "test")
    made = {"val": CHOICES, "test-dev2015": CHOICES[::-1]}

    def files(folder, split):
        if split not in made:
            raise DataError("missing")
        return [folder]

    module.files, module.records = files, lambda folder, split: iter(made[split])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.BUILDER = builder.declare(module.__name__, records.MultipleChoice)
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "x").touch()
    folder = builder.build(module.BUILDER, str(tmp_path / "manual"), str(tmp_path / "built"))
    assert builder.find_built(module.BUILDER, str(tmp_path / "built"), {}) == folder
    for split, expected in made.items():
        assert tuple(builder.read_built(records.MultipleChoice, folder, split)) == expected
    with pytest.raises(DataError, match=r"(?s)lacks a split.*'test'.*\['test-dev2015', 'val'\]"):
        list(builder.read_built(records.MultipleChoice, folder, "test"))


def test_phrases_with_boxes_are_built_without_what_is_left_out(tmp_path):
    made = [region(1), region(2), region(3, phrase="a dog", box=(90, 1, 2, 2))]
    manual = write_regions(tmp_path / "official", {4: made, 100: [region(9, 100)]})
    folder = builder.build(visual_genome_regions.BUILDER, manual, str(tmp_path / "built"))
    for split, names in {"train": ["4#1", "4#3"], "val": ["100#9"]}.items():
        found = list(visual_genome_regions.records(manual, split))
        kept = [record for record in found if not isinstance(record, Skipped)]
        assert [record.text_id for record in kept] == names
        assert list(builder.read_built(records.GroundedCaption, folder, split)) == kept


def test_splits_without_records_are_not_built(tmp_path, monkeypatch, capsys):
    """As of files of a subset."""
    module = type(sys)("input_pipeline.datasets.made_subset")
    module.__doc__, module.SPLITS = "Made up.", ("train", "val", "testB")
    made = {"train": CHOICES, "val": ()}

    def read(folder, split):
        if split not in made:
            raise NoSuchSplit("there is no split 'testB'")
        return iter(made[split])

    module.files, module.records = (lambda folder, split: [folder]), read
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.BUILDER = builder.declare(module.__name__, records.MultipleChoice)
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "x").touch()
    folder = builder.build(module.BUILDER, str(tmp_path / "manual"), str(tmp_path / "built"))
    assert "no records of the splits ['val', 'testB'], so they" in capsys.readouterr().out
    assert tuple(builder.read_built(records.MultipleChoice, folder, "train")) == CHOICES
    with pytest.raises(DataError, match=r"(?s)lacks a split.*'val'.*\['train'\]"):
        list(builder.read_built(records.MultipleChoice, folder, "val"))
    made["train"] = ()
    with pytest.raises(DataError, match=r"(?s)no records.*\['train', 'val', 'testB'\]"):
        builder.build(module.BUILDER, str(tmp_path / "manual"), str(tmp_path / "other"))


def test_rows_of_a_table_are_those_of_the_files(tmp_path):
    manual = write_coco(tmp_path / "official", train2014=range(12), val2017=range(20, 25))
    write_images(tmp_path / "store", SPEC, *((str(i), image(i)) for i in range(12)))
    built = str(tmp_path / "built")
    data = config(tmp_path, train_split="train2014").data
    from_files = datasets.prepare(data)
    data.update(tfds_dir=built, manual_dir="")
    with pytest.raises(DataError, match=r"(?s)not built.*coco_captions/1\.0\.0.*tfds build"):
        datasets.prepare(data)
    builder.build(coco_captions.BUILDER, manual, built)
    from_table = datasets.prepare(data)
    rows = list(from_table.rows("val2017+train2014"))
    assert rows == list(from_files.rows("val2017+train2014"))
    assert (rows[0].text_id, rows[0].source, rows[-1].source) == ("9020", 0, 1)
    assert "tfrecord" in from_table.origin("val2017")
    with pytest.raises(DataError, match=r"(?s)lacks a split.*'val2014'"):
        list(from_table.rows("val2014"))
    (stream,) = pipeline.build_streams(
        config(tmp_path, train_split="train2014", tfds_dir=built), ASSEMBLE, image_margin=0
    ).values()
    assert stream.num_examples == 12


def test_nothing_official_leaves_nothing(tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "other.tsv").touch()
    build = conceptual_captions.BUILDER, str(tmp_path / "manual"), str(tmp_path / "built")
    with pytest.raises(DataError, match=r"(?s)missing.*Train_GCC-training\.tsv.*other\.tsv"):
        builder.build(*build)
    assert not [name for name in leftovers(tmp_path / "built") if "tfrecord" in name]
    with pytest.raises(DataError, match=r"(?s)not built.*crc32/1\.0\.0.*--config=crc32"):
        builder.find_built(build[0], build[2], {"indexing": "crc32"})
    with pytest.raises(DataError, match=r"(?s)one of the configs.*'url'"):
        builder.find_built(build[0], build[2], {"indexing": "url"})


def test_archives_have_checksums():
    tfds_builder = pytest.importorskip("input_pipeline.datasets.reading.tfds_builder")
    made = tfds_builder.builder_class(coco_captions.BUILDER, "made")
    assert (made.name, made.__name__, made.__module__) == ("coco_captions", "CocoCaptions", "made")
    assert len(made.url_infos) == 3
    assert all(len(info.checksum) == 64 and info.size > 10**7 for info in made.url_infos.values())


def test_splits_and_folders(tmp_path):
    write_coco(tmp_path / "official", train2014=range(3), val2014=range(5, 7))
    prepared = datasets.prepare(config(tmp_path).data)
    assert "train2014+val2014" in prepared.splits
    assert "train2014+dev" not in prepared.splits
    assert list(prepared.rows("train2014"))[:1] == [Row("0", "the the 0", "9000")]
    with pytest.raises(DataError, match=r"(?s)joined with itself.*val2014\+val2014"):
        list(prepared.rows("val2014+val2014"))
    before = prepared.fingerprint("train2014")
    assert before != prepared.fingerprint("val2014")
    write_coco(tmp_path / "official", train2014=range(4))
    assert prepared.fingerprint("train2014") != before
    # A folder of the data set's name below manual_dir wins.
    write_coco(tmp_path / "official" / "coco_captions", train2014=[8])
    assert [row.image_id for row in prepared.rows("train2014+val2014")] == ["8", "5", "6"]
    with pytest.raises(DataError, match=r"(?s)not named.*manual_dir.*coco_captions"):
        datasets.prepare(config(tmp_path, manual_dir="").data)
    with pytest.raises(DataError, match=r"(?s)unknown split.*train2014.*train2015"):
        pipeline.build_streams(config(tmp_path, train_split="train2015"), ASSEMBLE, image_margin=0)


def test_reading_official_files_needs_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None\n"
        "import importlib\n"
        "from input_pipeline import datasets\n"
        "names = [n for n in datasets.known() if n != 'scenes']\n"
        "[importlib.import_module(f'input_pipeline.datasets.{n}').prepare for n in names]\n"
        "assert 'apache_beam' not in sys.modules and len(names) > 3; print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


@pytest.mark.slow
def test_beam_makes_the_same_records(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    manual, built = write_cc(tmp_path / "official"), str(tmp_path / "built")
    monkeypatch.setattr(stretches.of_file, "__defaults__", (100, 0))
    assert len(list(stretches.of_file(f"{manual}/GCC-1.1.0-Validation.tsv"))) > 5
    folder = builder.build(conceptual_captions.BUILDER, manual, built, "row_beam")
    assert folder == builder.find_built(conceptual_captions.BUILDER, built, {"indexing": "row"})
    assert list(builder.read_built(records.Caption, folder, "validation")) == list(
        conceptual_captions.records(manual, "validation", indexing="row")
    )


@pytest.mark.slow
def test_tfds_command(tmp_path):
    pytest.importorskip("apache_beam")
    pytest.importorskip("mlcroissant")  # the command imports both
    manual = write_coco(tmp_path / "official", train2014=range(3))
    command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main"]
    arguments = [f"--manual_dir={manual}", f"--data_dir={tmp_path / 'built'}"]
    done = subprocess.run(
        [*command, "build", "input_pipeline/datasets/coco_captions.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = builder.find_built(coco_captions.BUILDER, str(tmp_path / "built"), {})
    read = list(builder.read_built(records.Caption, folder, "train2014"))
    assert read == list(coco_captions.records(manual, "train2014"))
