"""Tasks on one's own data: lines become records, records become batches."""

import pytest
from made_data import config, image, write_all, write_jsonl
from ml_collections import ConfigDict

from configs import common
from core.errors import DataError
from input_pipeline.datasets import prepare
from input_pipeline.datasets.reading import jsonl_lines, jsonl_tasks
from input_pipeline.datasets.records import (
    Answer,
    Caption,
    Expression,
    MultipleChoice,
    Question,
    Statement,
    Token,
)
from input_pipeline.streams import pipeline
from input_pipeline.texts.table_writer import Skipped
from objectives import assemble, choice, vqa

KEYS = ConfigDict(common.data_block("jsonl")["json_keys"])
BOX = [1, 2.5, 30, 40]


def read(tmp_path, task, rows, *, trained=True, on_missing="error", classes=(), keys=KEYS):
    path = write_jsonl(tmp_path / "own.jsonl", rows)
    reader = jsonl_tasks.Reader(task, keys, on_missing, trained=trained, classes=classes)
    return [record for _, record in reader.records([path], "")]


def line(**values):
    return {"image_id": "a", "text": "a red dog"} | values


def words(text):
    return tuple(map(Token, text.split()))


def test_captions_are_numbered_whatever_else_a_line_holds(tmp_path):
    rows = [line(id="x", text=["one", "two"]), line(id="x", text="three")]
    for task in ("captions", "retrieve"):
        assert read(tmp_path, task, rows) == [
            Caption("a#0", "a", "one"),
            Caption("a#1", "a", "two"),
            Caption("a#2", "a", "three"),
        ]


def test_classes(tmp_path):
    rows = [line(label="dog"), line(id=7, label="cat"), line(image_id=3, label="dog")]
    assert read(tmp_path, "classify", rows, classes=("cat", "dog")) == [
        Statement("a#0", ("a",), "a red dog", 1, "dog"),
        Statement("7", ("a",), "a red dog", 0, "cat"),
        Statement("3#0", ("3",), "a red dog", 1, "dog"),
    ]


def test_choices(tmp_path):
    rows = [line(choices=["it is red", "no"], label=1)]
    [found] = read(tmp_path, "choices", rows)
    assert found == MultipleChoice(
        "a#0", "a", 0, 0, words("a red dog"), (words("it is red"), words("no")), (), 1, -1, ()
    )


def test_boxes(tmp_path):
    box = (1.0, 2.5, 30.0, 40.0)
    plain, listed = line(box=BOX), line(box=BOX, candidates=[BOX, [0, 0, 5, 5]])
    assert read(tmp_path, "ground", [plain, plain]) == [
        Expression("a#0", -1, "a", "a red dog", box),
        Expression("a#1", -1, "a", "a red dog", box),
    ]
    [found] = read(tmp_path, "ground", [listed])
    assert found.candidates == (box, (0.0, 0.0, 5.0, 5.0))
    for rows in ([plain, listed], [listed, plain]):
        with pytest.raises(DataError, match=r"(?s)some lines have candidates.*own\.jsonl:2"):
            read(tmp_path, "ground", rows)


def test_answers(tmp_path):
    """One string, other ways to say it, or VQA's ten annotators."""
    ten = ["Two", "2"] + ["three"] * 8
    rows = [line(answers="A Dog"), line(answers=["dog", "puppy"]), line(answers=ten)]
    one, several, vqa_like = read(tmp_path, "questions", rows)
    assert one == Question("a#0", "a", "a red dog", (Answer("dog", 1.0),), ("A Dog",))
    assert several.answers == (Answer("dog", 1.0), Answer("puppy", 1.0))
    # "two" and "2" are one answer, of two annotators.
    assert vqa_like.answers == (Answer("3", 1.0), Answer("2", pytest.approx(0.6)))
    assert vqa_like.raw_answers == tuple(ten)


def test_every_own_answer_is_right_to_the_official_rule(tmp_path):
    from input_pipeline.datasets.reading import answers

    [question] = read(tmp_path, "questions", [line(answers=["dog", "puppy"])])
    scores = [answers.accuracy(text, question.raw_answers) for text in ("dog", "A puppy", "cat")]
    assert scores == [1, 1, 0]
    # Its own answers are compared normalised, ten that agree to the letter as well as one.
    for given in ("On the table.", ["On the table."] * 10, ["On the table.", "A desk"]):
        [question] = read(tmp_path, "questions", [line(answers=given)])
        assert [question.accuracy(text) for text in ("on table", "table")] == [1, 0]


UNLABELLED = {
    "classify": ("label", {}, lambda record: record.label == -1 and record.label_name == ""),
    "choices": ("label", {"choices": ["x", "y"]}, lambda record: record.answer_label == -1),
    "ground": ("box", {}, lambda record: record.box == (0, 0, 0, 0)),
    "questions": ("answers", {}, lambda record: record.answers == record.raw_answers == ()),
}


@pytest.mark.parametrize("task", UNLABELLED)
def test_lines_without_a_target_are_for_prediction_alone(tmp_path, task):
    name, more, unknown = UNLABELLED[task]
    [found] = read(tmp_path, task, [line(**more)], trained=False)
    assert unknown(found)
    with pytest.raises(DataError, match=rf"(?s)'{name}' is missing.*own\.jsonl:1.*json_keys"):
        read(tmp_path, task, [line(**more)])
    assert read(tmp_path, task, [line(**more)], on_missing="skip") == [
        Skipped(f"a#0 ({tmp_path}/own.jsonl:1)", f"no {name}")
    ]


BAD = {
    "class": ("classify", {"label": "bird"}, r"none of the classes.*'cat', 'dog'.*'bird'.*answers"),
    "bool": ("classify", {"label": True}, r"'label' is neither text nor a whole number.*True"),
    "float": ("classify", {"label": 1.5}, r"neither text nor a whole number.*1\.5"),
    "one choice": ("choices", {"choices": ["x"], "label": 0}, r"no list of texts.*at least 2"),
    "no choices": ("choices", {"label": 0}, r"'choices' is missing.*json_keys\.choices"),
    "choice": ("choices", {"choices": ["x", "y"], "label": 2}, r"none of the choices.*0 to 1"),
    "choice text": ("choices", {"choices": ["x", "y"], "label": "x"}, r"none of the choices"),
    "empty choice": ("choices", {"choices": ["x", " "], "label": 0}, r"not empty"),
    "xywh": ("ground", {"box": [30, 40, 10, 10]}, r"a box is none.*x1 < x2.*add the first two"),
    "three": ("ground", {"box": [1, 2, 3]}, r"a box is none"),
    "nan": ("ground", {"box": [1, 2, float("nan"), 9]}, r"NaN is no number"),
    "candidates": ("ground", {"box": BOX, "candidates": "all"}, r"'candidates' is no list"),
    "candidate": ("ground", {"box": BOX, "candidates": [[1, 2]]}, r"a box is none"),
    "answer": ("questions", {"answers": [3]}, r"no list of texts.*json_keys\.answers"),
    "empty": ("questions", {"answers": []}, r"no list of texts"),
    "texts": ("questions", {"answers": "x", "text": ["a", "b"]}, r"'text' is no text.*a string"),
    "blank": ("classify", {"label": "cat", "text": " "}, r"a text is empty"),
    "id": ("classify", {"label": "cat", "id": [1]}, r"an id is neither"),
    "null": ("classify", {"label": None}, r"'label' is null.*leave the key out"),
    "no answers": ("questions", {"answers": None}, r"'answers' is null.*leave the key out"),
    "twice": ("classify", {"label": "cat", "id": "a#0"}, r"id occurs twice.*'a#0'.*own\.jsonl:1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_name_file_and_line(tmp_path, name):
    task, values, message = BAD[name]
    good = dict(label="cat") if task == "classify" else dict(label=0, choices=["x", "y"])
    good |= dict(box=BOX, answers="x")
    with pytest.raises(DataError, match=rf"(?s){message}") as error:
        read(tmp_path, task, [line(**good), line(**values)], classes=("cat", "dog"))
    assert f"{tmp_path}/own.jsonl:2" in str(error.value)


def test_all_lines_have_as_many_choices(tmp_path):
    rows = [line(choices=["x", "y"], label=0), line(choices=["x", "y", "z"], label=0)]
    with pytest.raises(DataError, match=r"(?s)different numbers.*own\.jsonl:2.*2.*3"):
        read(tmp_path, "choices", rows)


def test_class_lists(tmp_path):
    def names(*labels):
        path = write_jsonl(tmp_path / "l.jsonl", [line(label=label) for label in labels])
        return jsonl_lines.class_names([path], KEYS, "")

    assert names("dog", "cat", "dog") == ["cat", "dog"]
    assert names(10, 9, 10) == ["9", "10"]  # by size, not by letters
    with pytest.raises(DataError, match=r"(?s)numbers and texts.*l\.jsonl:2"):
        names(1, "1")
    path = write_jsonl(tmp_path / "l.jsonl", [line()])
    with pytest.raises(DataError, match=r"(?s)no line has a label.*json_keys\.label"):
        jsonl_lines.class_names([path], KEYS, "")


# From here on: whole data sets, of eight images with regions.


def own(tmp_path, task, rows, held_out=(), **data):
    write_all(tmp_path)
    files = dict(annotations=write_jsonl(tmp_path / "train.jsonl", rows))
    if held_out:
        files["eval_annotations"] = write_jsonl(tmp_path / "dev.jsonl", held_out)
    return config(tmp_path, batch=2, records=task, **files, **data)


def rows_with(values):
    return [line(image_id=f"img{i}", text=f"the big dog {i}") | values(i) for i in range(8)]


def batches(tree, assemble, split="train"):
    stream = pipeline.build_evaluation(
        tree, "captions", {"captions": assemble}, split=split, batch_size=8, image_margin=0
    )
    return stream.batch(0), stream


def test_class_list_is_made_of_training_kept_and_given_to_evaluation(tmp_path, capsys):
    rows = rows_with(lambda i: {"label": ("dog", "cat")[i % 2]})
    held_out = [line(image_id="img1", label="dog"), line(image_id="img2")]
    tree = own(tmp_path, "classify", rows, held_out, leaks="report")
    prepared = prepare(tree.data)
    assert prepared.labels == ("cat", "dog")
    assert capsys.readouterr().out.count("2 classes in training") == 1
    assert prepare(tree.data).labels == ("cat", "dog")
    assert "classes" not in capsys.readouterr().out  # kept
    batch, stream = batches(tree, assemble.caption)
    assert batch["label"][:, 0].tolist() == [1, 0] * 4
    assert [stream.text_id(i) for i in range(2)] == ["img0#0", "img1#0"]
    batch, _ = batches(tree, assemble.caption, "eval")
    assert batch["label"][:2, 0].tolist() == [1, -1]
    assert [record.text_id for record in prepared.records("validation")] == ["img1#0", "img2#0"]

    (tmp_path / "classes.json").write_text('["bird", "dog", "cat"]')
    tree.data.answers = str(tmp_path / "classes.json")
    other = prepare(tree.data)
    assert other.labels == ("bird", "dog", "cat")
    assert other.fingerprint("train") != prepared.fingerprint("train")
    batch, _ = batches(tree, assemble.caption)
    assert batch["label"][:, 0].tolist() == [1, 2] * 4


def test_one_class_alone_is_refused(tmp_path):
    tree = own(tmp_path, "classify", rows_with(lambda i: {"label": "dog"}))
    with pytest.raises(
        DataError, match=r"(?s)nothing to tell apart.*classes-.*'dog'.*data\.answers"
    ):
        prepare(tree.data)
    (tmp_path / "one.txt").write_text("dog\n")
    tree.data.answers = str(tmp_path / "one.txt")
    with pytest.raises(DataError, match=r"(?s)nothing to tell apart.*one\.txt"):
        prepare(tree.data)


def test_choices_become_texts_of_one_example(tmp_path):
    rows = rows_with(lambda i: {"choices": ["red", "a big cat", "tree"], "label": i % 3})
    tree = own(tmp_path, "choices", rows, stream={"max_text": 16, "max_length": 22})
    block = ConfigDict(
        dict(pairs="texts", choices=3, loss="softmax", head="choice", classifier="1fc",
             head_init="random", segment_b="as_loaded", cut_first="choice")
    )  # fmt: skip
    batch, stream = batches(tree, choice.Choice.assembler(block))
    assert stream.num_examples == 8
    assert batch["text_ids"].shape == (8, 3, 16)
    assert batch["label"][:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    # [CLS] + question + [SEP] + choice + [SEP]: the choices differ in their own words alone.
    first, second = batch["segment_ids"][0, :2].sum(-1)
    assert second > first >= 2


def test_boxes_become_overlaps_and_candidates(tmp_path):
    boxes = [image(i)["boxes"] for i in range(8)]
    rows = rows_with(lambda i: {"box": boxes[i][0].tolist()})
    tree = own(tmp_path, "ground", rows, stream={"order": "stored"})
    batch, _ = batches(tree, assemble.caption)
    assert batch["region_iou"][:, 0, 1].tolist() == pytest.approx([1] * 8)
    assert "candidate_mask" not in batch  # without candidates in the file, every region is one

    for i, row in enumerate(rows):
        row["candidates"] = boxes[i][:2].tolist()
    write_jsonl(tree.data.annotations, rows)
    batch, _ = batches(tree, assemble.caption)
    assert batch["candidate_mask"][4, 0].tolist()[:4] == [True, True, True, False]
    assert batch["region_mask"][4, 0, 3]


def test_questions_have_a_list_of_their_answers(tmp_path):
    rows = rows_with(lambda i: {"answers": ("red", "A cat")[i % 2]})
    tree = own(tmp_path, "questions", rows, answer_count=1)
    batch, _ = batches(tree, vqa.assemble_masked_answer)
    prepared = prepare(tree.data)
    assert prepared.answers.labels == ("cat", "red")
    assert batch["answer_ids"][:, 0].tolist() == [1, 0] * 4
    assert batch["answer_scores"][:, 0].tolist() == [1] * 8


def test_unknown_tasks_are_named(tmp_path):
    tree = own(tmp_path, "sorting", rows_with(lambda i: {}))
    with pytest.raises(DataError, match=r"(?s)unknown records of jsonl.*classify.*'sorting'"):
        pipeline.Data(tree.data)


def test_splits_in_one_file_may_lack_labels_outside_training(tmp_path):
    rows = rows_with(lambda i: {"part": "new"} if i % 2 else {"part": "train", "label": i})
    tree = own(tmp_path, "classify", rows, json_keys={"split": "part"}, eval_split="new")
    prepared = prepare(tree.data)
    assert prepared.labels == ("0", "2", "4", "6")
    assert [record.label for record in prepared.records("new")] == [-1] * 4
    assert [record.label for record in prepared.records("train")] == [0, 1, 2, 3]
