"""Tokenised tables: ragged rows come out as they went in."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import xxhash
from made_data import leftovers, text_of

from core.errors import DataError
from input_pipeline.texts.table_columns import column_dtype
from input_pipeline.texts.tables import Row, Skipped, TextTable, build_table, cached_table
from input_pipeline.texts.tokenizer import Tokenizer, train_wordpiece


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "v.txt"
    train_wordpiece([text_of(i) for i in range(40)], 170, path)
    return Tokenizer.load(path)


def rows(n=20):
    return [Row(f"img{i // 2}", text_of(i), f"t{i}", source=i % 3) for i in range(n)]


def test_gather(tmp_path, tokenizer):
    made = rows()
    table = build_table(made, tokenizer, tmp_path / "t", source="s", origin="x.jsonl")
    encoded = tokenizer.encode_batch([row.text for row in made])
    assert len(table) == 20
    assert table.images == [f"img{i}" for i in range(10)]
    assert [table.images[i] for i in table.image_index] == [row.image_id for row in made]
    assert table.source.tolist() == [i % 3 for i in range(20)]
    assert [table.text_id(i) for i in (0, 7, 19)] == ["t0", "t7", "t19"]
    assert table.probe is None
    assert table.foreign is None
    assert not (tmp_path / "t" / "foreign.bin").exists()
    pick = np.asarray([19, 3, 3, 0])
    for width in (4, 30):
        got = table.gather(pick, width)
        for b, row in enumerate(pick):
            n = min(width, len(encoded[row].ids))
            assert got["lengths"][b] == n
            assert got["ids"][b].tolist() == encoded[row].ids[:n] + [0] * (width - n)
            flags = encoded[row].word_starts[:n] + [False] * (width - n)
            assert got["word_starts"][b].tolist() == flags
    flat = [i for item in encoded for i in item.ids]
    got = table.gather(pick, 25, cyclic=True)
    for b, row in enumerate(pick):
        start = sum(len(item.ids) for item in encoded[:row])
        assert got["ids"][b].tolist() == (flat[start:] + flat)[:25]
    assert got["lengths"].tolist() == [25] * 4


def test_cyclic_pieces_are_the_originals_loop(tmp_path, tokenizer):
    """The original appends lines until it has 64 basic tokens, then cuts to 64 pieces."""
    width = 12
    texts = [text_of(i) for i in range(15)]
    table = build_table(
        [Row(None, t, str(i)) for i, t in enumerate(texts)], tokenizer, tmp_path / "t", source="s"
    )
    got = table.gather(np.arange(15), width, cyclic=True)
    for i in range(15):
        words, at = texts[i].split(), i
        while len(words) < width:
            at = (at + 1) % 15
            words += texts[at].split()
        assert got["ids"][i].tolist() == tokenizer.encode_batch([" ".join(words)])[0].ids[:width]


def test_probe_words(tmp_path, tokenizer):
    marked = Row("a", "the red house", "p", probe=((4, 7, 2),))
    table = build_table([marked, *rows(2)], tokenizer, tmp_path / "t", source="s")
    ids = tokenizer.encode_batch(["red"])[0].ids
    got = table.gather(np.arange(3), 12)
    assert got["ids"][0][got["probe"][0] == 3].tolist() == ids
    assert got["probe"][0].sum() == 3 * len(ids)
    assert not got["probe"][1:].any()
    bad = Row("a", "the red house", "q", probe=((40, 44, 0),))
    with pytest.raises(DataError, match=r"(?s)probe span.*'q'.*\(40, 44"):
        build_table([bad], tokenizer, tmp_path / "u", source="s")
    assert not (tmp_path / "u").exists()


def test_foreign_texts(tmp_path, tokenizer):
    def made(**foreign):
        return [dataclasses.replace(row, foreign=foreign.get(row.text_id, ())) for row in rows(6)]

    late = made(t0=("t5", "t2", "t5"), t3=("t0",))
    table = build_table(late, tokenizer, tmp_path / "t", source="s")
    none = [-1, -1, -1]
    assert table.foreign.tolist() == [[5, 2, 5], none, none, [0, -1, -1], none, none]
    assert table.foreign.dtype == np.int32
    table.check_foreign(np.asarray([3, 0]))
    with pytest.raises(DataError, match=r"(?s)no foreign text.*/t, text 't1'.*none for 2 of 3"):
        table.check_foreign(np.asarray([0, 1, 2]))
    for name, found in (("t9", r"'t9' \(no such text\)"), ("t2", "'t2'"), ("t3", "'t3'")):
        with pytest.raises(DataError, match=rf"(?s)f\.jsonl, text 't3'.*another image.*{found}"):
            build_table(made(t3=(name,)), tokenizer, tmp_path / "u", source="s", origin="f.jsonl")
    # A false text of the same image is one that follows, no caption of it.
    pair = [dataclasses.replace(rows(1)[0], foreign=("false",)),
            dataclasses.replace(rows(1)[0], text_id="false", follows=True)]  # fmt: skip
    table = build_table(pair, tokenizer, tmp_path / "p", source="s")
    assert table.foreign.tolist() == [[1], [-1]]
    assert table.examples().tolist() == [True, False]
    # A text that is left out is no foreign text, and no error.
    for gone in (Skipped("gone", "no text"), Row("img9", "\u200b", "gone")):
        some = [gone, *made(t1=("gone", "t4"), t2=("gone",))]
        folder = tmp_path / type(gone).__name__
        table = build_table(some, tokenizer, folder, source="s", on_missing="skip")
        assert table.foreign[1:3].tolist() == [[4, -1], [-1, -1]]


def test_cache_and_fingerprint(tmp_path, tokenizer):
    calls = []

    def make():
        calls.append(1)
        return iter(rows())

    options = {"origin": "x"}
    a = cached_table(make, tokenizer, tmp_path, "train", source="s", **options)
    b = cached_table(make, tokenizer, tmp_path, "train", source="s", **options)
    c = cached_table(make, tokenizer, tmp_path, "train", source="t", **options)
    assert len(calls) == 2
    assert a.fingerprint == b.fingerprint != c.fingerprint


def test_bad_texts_leave_nothing(tmp_path, tokenizer):
    empty = [*rows(2), Row("x", "\u200b \x00", "hollow")]
    with pytest.raises(DataError, match=r"(?s)a text is empty.*f\.jsonl, text 'hollow'.*one word"):
        build_table(empty, tokenizer, tmp_path / "t", source="s", origin="f.jsonl")
    with pytest.raises(DataError, match="0 texts, 1 skipped"):
        build_table([Skipped("a", "no text")], tokenizer, tmp_path / "t", source="s")
    assert leftovers(tmp_path) == []
    table = build_table(empty, tokenizer, tmp_path / "t", source="s", on_missing="skip")
    assert len(table) == 2
    assert table.skipped == [Skipped("hollow", "no text")]


def test_damage_is_found(tmp_path, tokenizer):
    some = [dataclasses.replace(row, foreign=("t18",)) for row in rows(18)] + rows()[18:]
    build_table(some, tokenizer, tmp_path / "t", source="s")
    for name in ("ids.bin", "offsets.bin", "word_starts.bin", "text_ids.bin", "foreign.bin"):
        for change in (lambda d: d[:-1], lambda d: bytes([d[0] ^ 1]) + d[1:]):
            copy = shutil.copytree(tmp_path / "t", tmp_path / "copy")
            (copy / name).write_bytes(change((copy / name).read_bytes()))
            with pytest.raises(DataError, match=rf"(?s)copy/{name}.*remove .*copy"):
                TextTable.open(copy)
            shutil.rmtree(copy)
    with pytest.raises(DataError, match=r"meta\.json"):
        TextTable.open(tmp_path / "none")


def test_ids_beyond_the_vocabulary(tmp_path, tokenizer):
    table = build_table(rows(), tokenizer, tmp_path / "t", source="s", origin="f.jsonl")
    table.check_vocabulary(tokenizer.vocab_size)
    top = max(int(part.max()) for _, part in table.ids.parts())
    row = next(i for i, r in enumerate(rows()) if top in tokenizer.encode_batch([r.text])[0].ids)
    with pytest.raises(
        DataError, match=rf"(?s)beyond.*f\.jsonl, text 't{row}'.*id < {top}\s.*found: {top}"
    ):
        table.check_vocabulary(top)


def test_values_beside_the_text(tmp_path, tokenizer):
    given = [(3, 1), (), (7,), (2, 5, 4)]
    made = [
        dataclasses.replace(
            row, values={"answer_ids": ids, "answer_scores": [0.5 + i / 8 for i in ids]}
        )
        for row, ids in zip(rows(4), given, strict=True)
    ]
    build_table(made, tokenizer, tmp_path / "t", source="s")
    table = TextTable.open(tmp_path / "t")
    values = table.values_of(np.asarray([3, 1, 0]))
    assert values["answer_ids"].tolist() == [[2, 5, 4], [0, 0, 0], [3, 1, 0]]
    assert values["answer_ids"].dtype == np.int32
    scores = [[0.75, 1.125, 1.0], [0, 0, 0], [0.875, 0.625, 0]]
    assert values["answer_scores"].tolist() == scores
    assert build_table(rows(4), tokenizer, tmp_path / "plain", source="s").values_of([0]) == {}
    nothing = [dataclasses.replace(row, values={"answer_ids": ()}) for row in rows(2)]
    empty = build_table(nothing, tokenizer, tmp_path / "none", source="s")
    assert empty.values_of(np.asarray([1, 0]))["answer_ids"].tolist() == [[0], [0]]
    with pytest.raises(DataError, match=r"(?s)carry different values.*'t4'.*answer_ids"):
        build_table([*made, *rows(5)[4:]], tokenizer, tmp_path / "mixed", source="s", origin="q")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none", "plain", "t"]


def test_a_damaged_value_column_is_found(tmp_path, tokenizer):
    made = [dataclasses.replace(row, values={"answer_ids": (5,)}) for row in rows(4)]
    build_table(made, tokenizer, tmp_path / "t", source="s")
    path = tmp_path / "t" / "value.answer_ids.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"(?s)table is damaged.*value\.answer_ids\.bin"):
        TextTable.open(tmp_path / "t")


def sealed(folder, name, change):
    """Changes a column, and what guards it."""
    path = folder / f"{name}.bin"
    found = change(np.fromfile(path, column_dtype(name)))
    found.tofile(path)
    meta = json.loads((folder / "meta.json").read_text())
    digest = xxhash.xxh3_64_hexdigest(found.tobytes())
    meta["columns"][name] = {"count": len(found), "xxh3": digest}
    meta.pop("xxh3", None)
    (folder / "meta.json").write_text(json.dumps(meta))


def meta_of(**changes):
    def change(folder):
        meta = json.loads((folder / "meta.json").read_text()) | {"xxh3": "-"} | changes
        (folder / "meta.json").write_text(json.dumps({k: v for k, v in meta.items() if v != "-"}))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "meta.json").write_bytes(b"[" * 10**5), "meta.json.*description"),
        (lambda f: (f / "meta.json").write_bytes(b"\xff"), "meta.json.*description"),
        (lambda f: (f / "meta.json").write_bytes(b"[]"), "meta.json.*description"),
        (meta_of(columns="-"), "meta.json.*'columns'"),
        (meta_of(columns={}), "the columns"),
        (meta_of(columns={"../../x": {"count": 1, "xxh3": ""}}), "KeyError"),
        (meta_of(columns={"ids": 3}), "TypeError"),
        (meta_of(skipped=[["a"]]), "TypeError"),
        (lambda f: sealed(f, "offsets", lambda c: c[::-1]), "offsets.bin.*never falling"),
        (lambda f: sealed(f, "offsets", lambda c: c[:-1]), "offsets.bin"),
        (lambda f: sealed(f, "ids", lambda c: c[:-1]), "word_starts.bin"),
        (lambda f: sealed(f, "image_index", lambda c: c + 99), "image_index.bin.*number < 10"),
        (lambda f: sealed(f, "text_id_ends", lambda c: c[:-1]), "text_id_ends.bin"),
        (lambda f: sealed(f, "images", lambda c: c | 0x80), "Unicode"),
    ],
)
def test_tables_that_contradict_themselves(tmp_path, tokenizer, change, said):
    build_table(rows(), tokenizer, tmp_path / "t", source="s", origin="x.jsonl")
    change(tmp_path / "t")
    with pytest.raises(DataError, match=f"(?s)tokenised table is damaged.*{said}"):
        TextTable.open(tmp_path / "t")
