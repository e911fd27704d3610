"""GuessWhat: official games in, dialogues with candidate boxes out."""

import gzip
import json

import pytest

from core.errors import DataError
from input_pipeline.datasets import guesswhat
from input_pipeline.datasets.records import Pointing


def game(i=0, image=8, objects=(30, 20), meant=30, status="success", **changes):
    item = {
        "id": 100 + i,
        "image": {"id": image, "width": 50, "height": 40, "file_name": "COCO_train2014_8.jpg"},
        "objects": [{"id": o, "bbox": [o, 1, 2, 3.5], "category": "dog"} for o in objects],
        "object_id": meant,
        "qas": [
            {"id": 1, "question": "is it a  dog?", "answer": "No"},
            {"id": 2, "question": "red?", "answer": "N/A"},
        ],
        "status": status,
    }
    return {**item, **changes}


def write(folder, *games):
    (folder / "guesswhat.train.jsonl").write_text("".join(json.dumps(g) + "\n" for g in games))
    return str(folder)


def box(o):
    return (float(o), 1.0, o + 2.0, 4.5)


TEXT = "start is it a dog? answer No stop start red? answer N/A stop"


def test_games(tmp_path):
    games = game(), game(1, image=9), game(2, objects=(25, 30), status="failure")
    folder = write(tmp_path, *games, game(3, status="incomplete", qas=[]))
    records = list(guesswhat.records(folder, "train"))
    both = (box(20), box(25), box(30))  # image 8 has the objects of both of its games
    assert records == [
        Pointing("100", "8", TEXT, both, candidates=(0, 2), target=1),
        Pointing("101", "9", TEXT, (box(20), box(30)), candidates=(0, 1), target=1),
        Pointing("102", "8", TEXT, both, candidates=(1, 2), target=1),
    ]
    won = list(guesswhat.records(folder, "train", games="success"))
    assert won == records[:2]


def test_packed_file(tmp_path):
    with gzip.open(tmp_path / "guesswhat.valid.jsonl.gz", "wt") as file:
        file.write(json.dumps(game()) + "\n")
    [record] = guesswhat.records(str(tmp_path), "valid")
    assert record.text == TEXT


def qas(question="a?", answer="Yes"):
    return [{"question": question, "answer": answer}]


BAD = {
    "duplicate": (game(0), "game id occurs twice"),
    "meant": (game(1, meant=99), "not among the game's objects"),
    "box": ({**game(1), "objects": [{"id": 30, "bbox": [1, 2, 3]}]}, "box is malformed"),
    "box kind": ({**game(1), "objects": [{"id": 30, "bbox": "1"}]}, "'bbox' is of the wrong kind"),
    "answer": (game(1, qas=qas(answer="Maybe")), "unknown answer.*'N/A'"),
    "question": (game(1, qas=qas(question=" ")), "question is empty"),
    "no qas": ({k: v for k, v in game(1).items() if k != "qas"}, "'qas' is missing"),
    "image": ({**game(1), "image": 8}, "'image' is of the wrong kind"),
    "status": (game(1, status=1), "'status' is of the wrong kind"),
    "no id": ({k: v for k, v in game(1).items() if k != "id"}, "'id' is missing"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines(tmp_path, name):
    bad, message = BAD[name]
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        list(guesswhat.records(write(tmp_path, game(0), bad), "train"))
    assert "guesswhat.train.jsonl:2" in str(error.value)


def test_cut_file(tmp_path):
    data = gzip.compress((json.dumps(game()) + "\n").encode())
    (tmp_path / "guesswhat.test.jsonl.gz").write_bytes(data[:-20])
    with pytest.raises(DataError, match=r"(?s)cannot be read.*guesswhat\.test\.jsonl\.gz"):
        list(guesswhat.records(str(tmp_path), "test"))


@pytest.mark.parametrize(("data", "message"), [(b"[", "malformed JSON"), (b"\xff", "not UTF-8")])
def test_bad_bytes(tmp_path, data, message):
    (tmp_path / "guesswhat.test.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(guesswhat.records(str(tmp_path), "test"))


def test_missing_file_and_unknown_option(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*guesswhat\.valid\.jsonl"):
        guesswhat.files(str(tmp_path), "valid")
    with pytest.raises(DataError, match=r"(?s)unknown choice of games.*'all', 'success'.*'won'"):
        guesswhat.files(write(tmp_path, game()), "train", games="won")
