"""Published state dicts: what their files may name and hold; tables with rows of padding."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import convert, sources, state_files, transfer
from checkpoints.state_files import SourceError

WORDS = "trunk/embeddings/word/embedding"
BIAS = "heads/masked_language/bias"


def write_index(folder, text):
    (folder / "model.safetensors.index.json").write_bytes(text)


def test_an_index_joins_the_files_beside_it(tmp_path):
    for number in (1, 2):
        save_file({f"a{number}": np.full(2, number)}, tmp_path / f"model-{number}.safetensors")
    listed = {f"a{number}": f"model-{number}.safetensors" for number in (1, 2)}
    write_index(tmp_path, json.dumps({"weight_map": listed}).encode())
    assert {k: v.tolist() for k, v in state_files.read_folder(tmp_path).items()} == {
        "a1": [1, 1], "a2": [2, 2]
    }  # fmt: skip


@pytest.mark.parametrize(
    "file",
    ["../outside.safetensors", "{outside}", "sub/../../outside.safetensors", "..", "", ".", 3, None,
     "/etc/passwd", "..\\outside.safetensors", "missing.safetensors", "model.bin", ["a"]],
)  # fmt: skip
def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path, file):
    save_file({"a": np.ones(1)}, tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"x")
    if isinstance(file, str):
        file = file.replace("{outside}", str(tmp_path / "outside.safetensors"))
    write_index(folder, json.dumps({"weight_map": {"a": file}}).encode())
    with pytest.raises(SourceError, match="index of a published checkpoint is not understood"):
        sources.open_source(str(folder))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"weight_map": []}', b"[" * 100_000]
)
def test_a_damaged_index_is_told(tmp_path, text, capsys):
    write_index(tmp_path, text)
    assert convert.main([str(tmp_path)]) == 1
    assert "is not understood" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "C64"])
def test_numbers_that_need_scales_are_refused(tmp_path, kind):
    width = 8 if kind == "C64" else 1
    header = json.dumps(
        {"a": {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * width]}}
    ).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * width))
    with pytest.raises(SourceError, match=rf"(?s)without their scales.*'a'.*{kind}"):
        sources.open_source(str(tmp_path))


def test_a_vocabulary_of_bytes_must_number_its_pieces(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text('{"<s>": 0, "\u0120a": 2, "b": 1}')
    assert sources._pieces(tmp_path, "roberta", "") == ["[CLS]", "##b", "a"]
    for text in (b"[]", b'{"a": 1}', b'{"a": "x", "b": 0}', b"\xff", b'{"a": 0, "b": 0}'):
        path.write_bytes(text)
        with pytest.raises(SourceError, match="vocabulary is not understood"):
            sources._pieces(tmp_path, "roberta", "")


def test_names_on_arrays_of_other_shapes_are_told(tmp_path):
    save_file({"bert.embeddings.word_embeddings.weight": np.ones(3, np.float32)},
              tmp_path / "model.safetensors")  # fmt: skip
    assert convert.main([str(tmp_path), f"--out={tmp_path / 'out'}"]) == 1
    with pytest.raises(SourceError, match="unknown kind of published model"):
        sources.open_source(str(tmp_path), kind="albert")


def fit(rows, mine, theirs):
    """A word table of `rows` rows, and a tied head's bias, fitted into a model's."""
    table = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    arrays = {WORDS: table, BIAS: np.arange(rows, dtype=np.float32)}
    source = sources.Source("x", "bert", arrays, dict.fromkeys(arrays, "n"), pieces=theirs)
    shapes = {
        "trunk": {"embeddings": {"word": {"embedding": np.zeros((len(mine), 2), np.float32)}}},
        "heads": {"masked_language": {"bias": np.zeros(len(mine), np.float32)}},
    }
    heads = {"masked_language": transfer.HeadSpec("tied_decoder", "text", {})}
    return table, transfer.fit(source, shapes, model="vlbert", pieces=mine, heads=heads)


MINE = [f"p{i}" for i in range(122)]


@pytest.mark.parametrize("theirs", [MINE, None])
@pytest.mark.parametrize("rows", [122, 128])
def test_a_table_padded_beyond_its_vocabulary_is_taken_without_the_padding(theirs, rows):
    table, fitted = fit(rows, MINE, theirs)
    assert np.array_equal(fitted.arrays[WORDS], table[:122])
    assert fitted.arrays[BIAS].tolist() == list(range(122))
    assert not fitted.known
    assert ("without 6 rows" in transfer.table(fitted.report)) == (rows > 122)


def test_padding_is_no_piece_where_the_vocabularies_differ():
    table, fitted = fit(128, MINE[::-1], MINE)
    assert np.array_equal(fitted.arrays[WORDS], table[:122][::-1])


@pytest.mark.parametrize(("rows", "theirs"), [(127, None), (250, None), (121, MINE)])
def test_other_sizes_are_refused(rows, theirs):
    with pytest.raises(SourceError, match="in the source"):
        fit(rows, MINE, theirs)


def test_a_name_that_the_hub_does_not_give_is_told_with_what_to_do(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")

    def offline(name, **options):
        raise ConnectionError("no network\nand more lines of it")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    monkeypatch.chdir(tmp_path)
    message = r"(?s)not found.*'you/model'.*ConnectionError: no network\n.*hf download you/model "
    with pytest.raises(SourceError, match=message):
        sources.open_source("you/model")
