"""Official formats: what is written, to the letter, and what is refused."""

import json
import re
import types

import pytest

from evaluation import prediction_file
from evaluation.submissions import __main__ as commands
from evaluation.submissions import formats


def predictions(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(tmp_path, dataset, *rows, records=None, kind=""):
    path = predictions(tmp_path / "test.jsonl", *rows)
    paths = formats.write(dataset, path, tmp_path / "out", records=records, kind=kind)
    return [(path.name, path.read_text()) for path in paths]


def test_lists_of_answers(tmp_path):
    rows = [dict(id="262148000", answer="down", top=[]), dict(id="262148001", answer="café")]
    ((name, text),) = made(tmp_path, "vqa", *rows)
    assert name == "vqa-test.json"
    assert json.loads(text) == [
        {"question_id": 262148000, "answer": "down"}, {"question_id": 262148001, "answer": "café"}
    ]  # fmt: skip
    ((name, text),) = made(tmp_path, "gqa", dict(id="02930152", answer="yes"))
    assert json.loads(text) == [{"questionId": "02930152", "prediction": "yes"}]


def test_boxes_by_referred_object(tmp_path):
    record = types.SimpleNamespace(text_id="17", ref_id=4)
    row = dict(id="17", region=2, box=[1.5, 2.0, 30.0, 40.0], score=0.5)
    ((_, text),) = made(tmp_path, "refcoco", row, records=lambda: [record])
    assert json.loads(text) == [{"ref_id": 4, "box": [1.5, 2.0, 30.0, 40.0]}]
    # Sentences that came without the ids of objects.
    record.ref_id = -1
    assert made(tmp_path, "refcoco", row, records=lambda: [record]) == []


def test_labels_by_identifier(tmp_path):
    row = {"id": "test1-0-1-0", "class": 1, "name": "True"}
    assert made(tmp_path, "nlvr2", row) == [("nlvr2-test.csv", "test1-0-1-0,True\n")]
    row = {"id": "1.jpg#2r1n", "class": 1, "name": "neutral"}
    ((_, text),) = made(tmp_path, "snli_ve", row)
    assert text == "pairID,label\n1.jpg#2r1n,neutral\n"


def test_data_sets_without_a_format_have_no_file(tmp_path):
    assert made(tmp_path, "scenes", dict(id="1", answer="red")) == []


def answers(*names, **more):
    return [dict(id=name, choice=0, probabilities=[0.7, 0.1, 0.1, 0.1], **more) for name in names]


def rationales(name, order=(0, 1, 2, 3)):
    """Answer i gives rationale j 0.ij."""
    return [dict(id=f"{name}/a{i}", choice=3, probabilities=[float(f"0.{i}{j}") for j in range(4)])
            for i in order]  # fmt: skip


HEADER = (
    "annot_id,answer_0,answer_1,answer_2,answer_3,"
    "rationale_conditioned_on_a0_0,rationale_conditioned_on_a0_1,"
    "rationale_conditioned_on_a0_2,rationale_conditioned_on_a0_3,"
    "rationale_conditioned_on_a1_0,rationale_conditioned_on_a1_1,"
    "rationale_conditioned_on_a1_2,rationale_conditioned_on_a1_3,"
    "rationale_conditioned_on_a2_0,rationale_conditioned_on_a2_1,"
    "rationale_conditioned_on_a2_2,rationale_conditioned_on_a2_3,"
    "rationale_conditioned_on_a3_0,rationale_conditioned_on_a3_1,"
    "rationale_conditioned_on_a3_2,rationale_conditioned_on_a3_3"
)
SIXTEEN = "0.0,0.01,0.02,0.03,0.1,0.11,0.12,0.13,0.2,0.21,0.22,0.23,0.3,0.31,0.32,0.33"


def test_halves_of_vcr(tmp_path):
    ((name, text),) = made(tmp_path, "vcr", *answers("test-0"), kind="answers")
    assert name == "vcr-test.csv"
    assert text == "annot_id,answer_0,answer_1,answer_2,answer_3\ntest-0,0.7,0.1,0.1,0.1\n"
    ((_, text),) = made(tmp_path, "vcr", *rationales("test-0"), kind="rationales")
    header, line = text.splitlines()
    assert header == "annot_id," + HEADER.split("answer_3,")[1]
    assert line == f"test-0,{SIXTEEN}"
    # Rationales of the right answers alone are none of the leaderboard's.
    assert made(tmp_path, "vcr", *answers("val-0", label=1), kind="rationales") == []


def test_vcr_leaderboard_file(tmp_path, capsys):
    first = predictions(tmp_path / "a.jsonl", *answers("test-0", "test-1"))
    second = predictions(
        tmp_path / "r.jsonl", *rationales("test-1", (3, 1, 0, 2)), *rationales("test-0")
    )
    arguments = ["vcr", f"--answers={first}", f"--rationales={second}"]
    commands.main([*arguments, f"--out={tmp_path / 'all.csv'}"])
    assert (tmp_path / "all.csv").read_text().splitlines() == [
        HEADER, f"test-0,0.7,0.1,0.1,0.1,{SIXTEEN}", f"test-1,0.7,0.1,0.1,0.1,{SIXTEEN}"
    ]  # fmt: skip
    for rows, message in (
        (rationales("test-0"), r"1 with answers alone \['test-1'\]"),
        (answers("test-0", "test-1"), "'test-0' is of the right answer's rationales alone"),
        (rationales("test-0", (0, 2)), r"needs rationales for 4 answers, found those for \[0, 2\]"),
    ):
        predictions(second, *rows)
        assert commands.main([*arguments, f"--out={tmp_path / 'none.csv'}"]) == 1
        assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "none.csv").exists()


def test_joint_accuracy_of_two_runs(tmp_path, capsys):
    def rows(*choices):
        return [dict(id=f"val-{i}", choice=c, label=2, probabilities=[]) for i, c in choices]

    first = predictions(tmp_path / "a.jsonl", *rows((0, 2), (1, 2), (2, 0), (3, 2)))
    second = predictions(tmp_path / "r.jsonl", *rows((3, 2), (2, 2), (1, 1), (0, 1)))
    arguments = ["vcr-joint", f"--answers={first}", f"--rationales={second}"]
    commands.main(arguments)
    assert capsys.readouterr().out == "Q→A   75.00 %\nQA→R  50.00 %\nQ→AR  25.00 %\n"
    predictions(second, *answers("val-0", "val-1", "val-2", "val-3"))
    assert commands.main(arguments) == 1
    assert "'val-0' has no label" in capsys.readouterr().err
    predictions(second, *rows((0, 2)))
    assert commands.main(arguments) == 1
    assert "3 with answers alone ['val-1', 'val-2', 'val-3']" in capsys.readouterr().err


def test_predictions_of_other_tasks_are_no_choices(tmp_path, capsys):
    other = predictions(tmp_path / "vqa.jsonl", dict(id="1", answer="down"))
    for command in (["vcr", f"--out={tmp_path / 'b.csv'}"], ["vcr-joint"]):
        assert commands.main([*command, f"--answers={other}", f"--rationales={other}"]) == 1
        told = capsys.readouterr().err
        assert re.search(r"(?s)^error: .*'1' is of another task.*'answer'.*fix", told)
    assert not (tmp_path / "b.csv").exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"no file of predictions: .*a\.jsonl"):
        list(prediction_file.read(tmp_path / "a.jsonl"))
    for text in ("{", "[1]", '{"answer": 1}'):
        (tmp_path / "a.jsonl").write_text('{"id": "1"}\n' + text)
        with pytest.raises(ValueError, match=r"a\.jsonl:2 is no prediction"):
            list(prediction_file.read(tmp_path / "a.jsonl"))
