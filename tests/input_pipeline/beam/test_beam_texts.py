"""Tables of texts on Beam's engines: the bytes of the table that a run makes, found by it."""

import itertools
import json
import pathlib
import shutil

import pytest
from made_data import text_of, write_jsonl
from test_beam_regions import HERE, Twice, contents

from core.errors import ConfigError, DataError
from input_pipeline import datasets
from input_pipeline.beam import __main__ as command
from input_pipeline.beam import texts
from input_pipeline.beam.engine import Engine
from input_pipeline.datasets.reading import stretches
from input_pipeline.texts import vocabulary
from input_pipeline.texts.rows import Row
from input_pipeline.texts.table_parts import join_tables
from input_pipeline.texts.table_writer import write_table
from input_pipeline.texts.tables import cached_table
from input_pipeline.texts.tokenizer import Tokenizer, train_wordpiece

SPLIT = "train"


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / vocabulary.FILE
    train_wordpiece((text_of(i) for i in range(50)), 180, path)
    return str(path)


def block_of(dataset, vocab, folder, **fields):
    return command.block_of(dataset, {"vocab": vocab, "dir": str(folder), **fields})


def of_one_machine(block, split=SPLIT):
    """The folder of the table that a run on a `data` block makes, by what `streams.data` calls."""
    prepared = datasets.prepare(block)
    table = cached_table(
        lambda: prepared.rows(split),
        Tokenizer.load(prepared.vocab),
        block.dir,
        split,
        source=prepared.fingerprint(split),
        origin=prepared.origin(split),
        on_missing=block.on_missing,
    )
    return pathlib.Path(table.folder)


def compare(block, other, split=SPLIT, engine=None, size=300):
    """Builds a table both ways; returns {name: bytes} of its files, which are the same."""
    one = of_one_machine(block, split)
    folder, count = texts.build(other, split, engine or Engine(HERE), size)
    assert count > 4
    assert folder.name == one.name
    assert contents(folder) == contents(one)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return contents(folder)


def write_captions(folder, rows=60):
    """Conceptual Captions with urls that occur again, blank lines and letters of two bytes."""
    folder.mkdir()
    lines = [f"{text_of(i)} {'é' * (i % 3)}\thttp://x/{i % 25}" for i in range(rows)]
    (folder / "Train_GCC-training.tsv").write_text("\n\n".join(lines) + "\n", "utf-8")
    lines = [f"{text_of(100 + i)}\thttp://y/{i}" for i in range(9)]
    (folder / "Validation_GCC-1.1.0-Validation.tsv").write_text("\n".join(lines))
    return str(folder)


@pytest.mark.parametrize("split", ["train", "train+validation"])
def test_conceptual_captions(tmp_path, vocab, split):
    manual = write_captions(tmp_path / "cc")
    blocks = [
        block_of("conceptual_captions", vocab, tmp_path / name, manual_dir=manual)
        for name in ("one", "beam")
    ]
    made = compare(*blocks, split=split, engine=Twice())
    assert made.keys() >= {"ids.bin", "images.bin", "meta.json"}
    assert "follows.bin" not in made
    again, count = texts.build(blocks[1], split, Engine(HERE))
    assert (contents(again), count) == (made, 0)


def lines_of(count=40):
    """Captions of images that come again, far and near, with texts that are empty or lists."""
    for i in range(count):
        text = [text_of(i), " "] if i % 7 == 3 else text_of(i)
        yield {"image_id": f"img{i % 11 if i % 2 else i}", "text": [] if i % 13 == 12 else text}


def test_own_captions_and_their_numbers(tmp_path, vocab):
    files = [
        write_jsonl(tmp_path / f"{n}.jsonl", itertools.islice(lines_of(), 20 * n, 20 * n + 20))
        for n in range(2)
    ]
    fields = dict(annotations=",".join(files), on_missing="skip")
    blocks = [block_of("jsonl", vocab, tmp_path / name, **fields) for name in ("one", "beam")]
    made = compare(*blocks)
    meta = json.loads(made["meta.json"])
    assert len(meta["skipped"]) > 4
    names = made["text_ids.bin"].decode()
    assert "img0#2" in names  # its third text, in another stretch than the first
    with pytest.raises(DataError, match=r"(?s)a text is empty.*0\.jsonl:4") as one:
        of_one_machine(block_of("jsonl", vocab, tmp_path / "x", annotations=fields["annotations"]))
    block = block_of("jsonl", vocab, tmp_path / "y", annotations=fields["annotations"])
    with pytest.raises(DataError) as other:
        texts.build(block, SPLIT, Engine(HERE), 300)
    assert str(other.value) == str(one.value)  # of the first bad line, with its number


def test_in_a_bucket(tmp_path, vocab, bucket):
    path = pathlib.Path(write_jsonl(tmp_path / "a.jsonl", lines_of()))
    bucket.server.put(bucket.name, "a.jsonl", path.read_bytes())
    bucket.server.put(bucket.name, "vocab.txt", pathlib.Path(vocab).read_bytes())
    one = of_one_machine(
        block_of("jsonl", vocab, tmp_path / "one", annotations=str(path), on_missing="skip")
    )
    block = block_of(
        "jsonl",
        f"{bucket.url}/vocab.txt",
        f"{bucket.url}/data",
        annotations=f"{bucket.url}/a.jsonl",
        on_missing="skip",
    )
    folder, _ = texts.build(block, SPLIT, Twice(), 300)
    names = bucket.names("data/")
    assert names == sorted(f"data/{one.name}/{path.name}" for path in one.iterdir())
    for path in one.glob("*.bin"):
        assert bucket.objects[f"data/{folder.name}/{path.name}"][0] == path.read_bytes()


class Stopped(Exception):
    pass


class Dies:
    """An engine that ends before the last items."""

    def each(self, work, items, place, label):
        Engine(HERE).each(work, items[:-2], place, label)
        raise Stopped


def test_a_stopped_pipeline_is_resumed(tmp_path, vocab):
    manual = write_captions(tmp_path / "cc")
    one, beam = (
        block_of("conceptual_captions", vocab, tmp_path / name, manual_dir=manual)
        for name in ("one", "beam")
    )
    with pytest.raises(Stopped):
        texts.build(beam, SPLIT, Dies(), 300)
    [partial] = (tmp_path / "beam").glob("*.partial")
    done = {path: path.stat().st_mtime_ns for path in partial.glob("part-*/meta.json")}
    assert len(done) > 3
    (partial / ".part-0-0-1.tmp-0").mkdir()  # as a worker that was killed leaves it
    kept = []

    class Watched:
        def each(self, work, items, place, label):
            Engine(HERE).each(work, items, place, label)
            kept.append({path: path.stat().st_mtime_ns for path in done} == done)

    compare(one, beam, engine=Watched())
    assert kept == [True]


def test_what_is_wrong(tmp_path, vocab, capsys):
    manual = write_captions(tmp_path / "cc")
    path = tmp_path / "cc" / "Train_GCC-training.tsv"
    path.write_text(path.read_text("utf-8").replace("http://x/7", ""), "utf-8")
    block = block_of("conceptual_captions", vocab, tmp_path / "beam", manual_dir=manual)
    with pytest.raises(DataError, match=r"(?s)Train_GCC-training\.tsv:15"):
        texts.build(block, SPLIT, Engine(HERE), 300)
    assert not [p for p in (tmp_path / "beam").iterdir() if p.suffix != ".partial"]
    with pytest.raises(ConfigError, match="no vocabulary"):
        texts.build(block_of("jsonl", "", tmp_path), SPLIT, Engine(HERE))
    with pytest.raises(DataError, match="one machine"):
        texts.build(block_of("vqa", vocab, tmp_path / "v", manual_dir=manual, answers=vocab,
                             train_split="val2014"), "val2014", Engine(HERE))  # fmt: skip
    start = ["texts", "conceptual_captions:train", f"--config.data.vocab={vocab}"]
    for more, told in {
        "--config.data.manual=x": "no such field",
        "--config.data.threads=many": "wrong value",
        "--config.data.on_missing=drop": "one of",
        "--runnr=x": "unknown options",
    }.items():
        assert command.main([*start, more]) == 1
        assert told in capsys.readouterr().err
    assert command.main(["texts", "nothing:train"]) == 1
    assert "a data set of" in capsys.readouterr().err


def test_the_command(tmp_path, vocab, capsys):
    manual = write_captions(tmp_path / "cc")
    fields = dict(manual_dir=manual, vocab=vocab, dir=str(tmp_path / "beam"))
    flags = [f"--config.data.{name}={value}" for name, value in fields.items()]
    assert command.main(["texts", "conceptual_captions:train", *flags, *HERE]) == 0
    folder = of_one_machine(
        block_of("conceptual_captions", vocab, tmp_path / "one", manual_dir=manual)
    )
    assert contents(tmp_path / "beam" / folder.name) == contents(folder)
    assert f"wrote {tmp_path / 'beam' / folder.name}: 1 stretches" in capsys.readouterr().out


def test_rows_of_several_images_are_not_joined(tmp_path, vocab):
    tokenizer = Tokenizer.load(vocab)
    rows = [Row("a", "the dog", "0", more_images=("b",))]
    write_table(rows, tokenizer, tmp_path / "part", source="part")
    with pytest.raises(DataError, match=r"(?s)one machine.*more_images"):
        join_tables([tmp_path / "part"], tmp_path / "t", fingerprint="", origin="")
    shutil.rmtree(tmp_path / "part")
    write_table([Row("a", "the dog", "0")], tokenizer, tmp_path / "part", source="part")
    (tmp_path / "part" / "ids.bin").write_bytes(b"1234")
    with pytest.raises(DataError, match=r"(?s)part of a table is damaged.*ids\.bin"):
        join_tables([tmp_path / "part"], tmp_path / "t", fingerprint="", origin="")
    assert not (tmp_path / "t").exists()


def test_marked_words_of_some_parts(tmp_path, vocab):
    """A column that one part lacks is zeros there; one that all lack is left out."""
    tokenizer = Tokenizer.load(vocab)
    rows = [
        Row("a", "the red dog", "0"),
        Row(None, "a cat", "1"),
        Row("b", "a big cat", "2", probe=((2, 5, 1),)),
        Row("a", "the house", "3", second=4, source=2),
    ]
    write_table(rows, tokenizer, tmp_path / "one", source="s", origin="o")
    for i, part in enumerate((rows[:2], [], rows[2:3], rows[3:])):
        folder = tmp_path / f"{i}"
        write_table(part, tokenizer, folder, source="part", origin="o", allow_empty=True)
    made = json.loads((tmp_path / "one" / "meta.json").read_text())["fingerprint"]
    parts = [tmp_path / f"{i}" for i in range(4)]
    join_tables(parts, tmp_path / "joined", fingerprint=made, origin="o")
    assert contents(tmp_path / "joined") == contents(tmp_path / "one")
    with pytest.raises(DataError, match="no texts"):
        join_tables(parts[1:2], tmp_path / "none", fingerprint="", origin="o")


def test_a_packed_file_is_one_stretch():
    assert list(stretches.of_file("a.tsv.gz")) == [(0, stretches.ALL, 1, 0, 0, {})]
