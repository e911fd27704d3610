"""VQA's text rules, accuracy, soft scores and answer vocabularies."""

import itertools
import json
import os
import pathlib
import pickle

import golden_files
import pytest

from core.errors import DataError
from input_pipeline.datasets import vqa
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.datasets.records import AnnotatedQuestion, Answer, Question, RowOptions

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)


def test_official_evaluation(tmp_path):
    [path] = golden_files.files("vqa_eval.json")
    golden = json.loads(path.read_text())
    questions = [
        {"question_id": a["question_id"], "image_id": a["image_id"], "question": "what?"}
        for a in golden["annotations"]
    ]
    for name, contents in (
        ("v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions}),
        ("v2_mscoco_val2014_annotations.json", {"annotations": golden["annotations"]}),
    ):
        (tmp_path / name).write_text(json.dumps(contents))
    predictions = {str(r["question_id"]): r["answer"] for r in golden["results"]}
    found = answers.evaluate(predictions, vqa.records(str(tmp_path), "val2014"))
    assert found.pop("per_question") == golden["expected"]["per_question"]
    assert found == golden["expected"]["accuracy"]


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("Two T-shirts.", "2 t shirts"),
        ("1,000", "1000"),  # a comma between digits: every mark goes without a space
        ("1,000-ton", "1000ton"),
        ("red, white", "red white"),
        ("skate/board", "skate board"),
        ("3.5", "3.5"),
        ("p.m.", "pm"),
        ("none of the above", "0 of above"),
        ("The  ten\tcats", "10 cats"),
        ("shouldntve shouldn'tve dont", "shouldntve shouldn't've don't"),
        ("oclock yall'd've", "o'clock y'all'd've"),
        ("somebody'd", "somebodyd"),
        ("Im lets", "im lets"),
        ("b: 'c'", "b: 'c'"),  # colons and quotes are no punctuation of the tool
        ("a", ""),
        ("x" + "." * 40, "x" + "." * 8),
    ],
)
def test_normalize(answer, normal):
    assert answers.normalize(answer) == normal


def test_accuracy_by_hand():
    ten = ["red"] * 3 + ["Blue"] * 2 + ["blue"] * 4 + ["green"]
    # 3 sets lack one red: 2/3 each; 7 hold all three: 1 each.
    assert answers.accuracy("red", ten) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert answers.accuracy("The BLUE", ten) == 1
    assert answers.accuracy("pink", ten) == 0
    # Ten equal answers are compared to the letter.
    assert answers.accuracy("Two", ["two"] * 10) == 0
    assert answers.accuracy("two\n", ["two"] * 10) == 1
    assert [answers.accuracy("yes", [a]) for a in ("yes", "no")] == [1, 0]
    # Any other number of answers is compared normalised on both sides.
    assert answers.accuracy("walking", ["Walking."]) == 1
    assert answers.accuracy("On table", ["On the table."]) == 1
    assert answers.accuracy("t-shirt", ["t shirt"]) == answers.accuracy("t shirt", ["t-shirt"]) == 1
    assert answers.accuracy("2", ["Two"] * 4) == 1
    assert answers.accuracy("A", ["the"]) == answers.accuracy("B", ["A"]) == 0  # nothing is left
    assert answers.accuracy("2", ["Two"] * 10, official=False) == 1
    with pytest.raises(DataError, match=r"(?s)needs annotators' answers.*'red'"):
        answers.accuracy("red", [])


def test_soft_scores_are_the_accuracy_and_the_table():
    for count in range(1, 11):
        ten = ["yes"] * count + [f"no {i}" for i in range(10 - count)]
        mean = sum(min(1, sum(a == "yes" for a in nine) / 3) for nine in _leave_one_out(ten)) / 10
        assert answers.soft_score(count) == pytest.approx(mean, abs=1e-12)
        assert answers.soft_score(count) == {1: 0.3, 2: 0.6, 3: 0.9}.get(count, 1.0)
        assert answers.accuracy("yes", ten) == pytest.approx(mean, abs=1e-12)
    assert answers.soft_score(1, annotators=1) == 1


def _leave_one_out(items):
    return itertools.combinations(items, len(items) - 1)


def test_what_is_counted():
    ten = ("Two", "two", "2", "2") + ("four",) * 6
    assert answers.soft_scores(ten, "verbatim") == {"Two": 0.3, "two": 0.3, "2": 0.6, "four": 1}
    assert answers.soft_scores(ten, "normalized") == {"2": 1, "4": 1}
    with pytest.raises(DataError, match=r"(?s)unknown form.*verbatim.*normalized.*'raw'"):
        answers.soft_scores(ten, "raw")


def question(i, raw=("yes",) * 10, main="yes"):
    return Question(str(i), "1", "q", answers=(Answer(main, 1.0),), raw_answers=raw)


def test_ten_answers_alone_make_no_vqa_question():
    """VQA's rule compares to the letter where its annotators agree; other data sets' is theirs."""
    ten = ("Walking.",) * 10
    assert Question("7", "1", "q", raw_answers=ten).accuracy("walking") == 1
    assert AnnotatedQuestion("7", "1", "q", raw_answers=ten).accuracy("walking") == 0


def test_annotators_of_several_writings_count_together():
    raw = ("two",) * 2 + ("2",) * 1 + ("3",) * 7
    given = tuple(Answer(*pair) for pair in answers.soft_scores(raw, "verbatim").items())
    question = AnnotatedQuestion("7", "1", "q", given, raw)
    vocabulary = AnswerVocabulary(["2", "3"])
    values = question.values(RowOptions(answers=vocabulary, answer_form="normalized"))
    assert values["answer_ids"] == [0, 1]
    assert values["answer_scores"] == [answers.soft_score(3), 1]


def test_half_of_an_accuracy_is_shown_as_right():
    question = Question("7", "1", "q", raw_answers=("dog", "dog", "cat", "cow"))
    assert question.accuracy("dog") == 0.5
    prediction = dict(answer="dog", probability=0.9, top=[("dog", 0.9)])
    assert question.shown(prediction).right
    assert not question.shown(prediction | dict(answer="cat")).right


def test_evaluation_needs_the_whole_split():
    match = r"(?s)not the same set.*1 questions without a prediction \['2'\].*1 pred.*\['3'\]"
    with pytest.raises(DataError, match=match):
        answers.evaluate({"1": "yes", "3": "no"}, [question(1), question(2)])
    with pytest.raises(DataError, match="at least one"):
        answers.evaluate({}, [])


def test_vocabulary_by_frequency():
    mains = ["b"] * 3 + ["Two"] * 2 + ["2"] + ["c"] * 3 + ["the rare"] * 2
    vocabulary = AnswerVocabulary.build((question(i, main=m) for i, m in enumerate(mains)), 3)
    assert vocabulary.labels == ("2", "b", "c")
    assert [vocabulary.lookup(answer) for answer in ("c", "2", "the Two.", "d")] == [2, 0, 0, -1]
    with pytest.raises(
        DataError, match=r"(?s)no answer is frequent.*at least 9.*\('2', 3\)|'b', 3"
    ):
        AnswerVocabulary.build(question(i, main=m) for i, m in enumerate(mains))


def test_both_sides_of_a_lookup_are_normalised():
    listed = ["Dog ", "T-shirt", "t shirt", "on table", "<unk>", "", "?", "2"]
    vocabulary = AnswerVocabulary(listed)
    assert vocabulary.alike == [("t shirt", "T-shirt")]
    expected = {"dog": 0, "DOG.": 0, " A dog\n": 0, "t-shirt": 1, "T Shirt": 2, "t/shirt": 1,
                "On the table.": 3, "two": 7, "<unk>": -1, "": -1, "?": -1, "the": -1}  # fmt: skip
    assert {answer: vocabulary.lookup(answer) for answer in expected} == expected
    # Annotators' answers as they are: what is written alike, or is normalised already.
    verbatim = {"dog": 0, "Dog": 0, "dog.": -1, "t-shirt": 1, "t/shirt": -1, "two": -1, "2": 7}
    assert {answer: vocabulary.lookup(answer, "verbatim") for answer in verbatim} == verbatim
    with pytest.raises(DataError, match="unknown form"):
        vocabulary.lookup("cat", "raw")


def test_an_answer_of_nothing_is_no_label_and_writings_are_kept():
    mains = ["T-shirt", "t shirt", "t-shirt", "t-shirt", "?", "?", "the", "a"]
    questions = [question(i, main=main) for i, main in enumerate(mains)]
    assert AnswerVocabulary.build(questions, 2).labels == ("t shirt",)
    assert AnswerVocabulary.build(questions, 2, as_written=True).labels == ("t-shirt",)


def test_a_text_list_is_read_as_the_original_reads_it(tmp_path):
    """Facts of its code: lower case, blanks around gone, no blank lines, without punctuation."""
    lines = [
        "Dog",
        " cat  ",
        "",
        "T-shirt",
        "t shirt",
        "1,000",
        "(x)",
        "Two",
        "p.m.",
        "<UNK>",
        "\u3000",
    ]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    loaded = AnswerVocabulary.load(tmp_path / "a.txt")
    assert loaded.labels == (
        "dog", "cat", "t shirt", "t shirt", "1000", " x ", "two", "pm", "<unk>"
    )  # fmt: skip
    assert [loaded.lookup(text) for text in ("t-shirt", "2", "x", "1000")] == [2, 6, 5, 4]


def test_files_keep_their_order(tmp_path):
    labels, other = ["<unk>", "no", "été", "a b"], ["no", "<unk>", "été", "a b"]
    vocabulary = AnswerVocabulary(labels)
    assert vocabulary.lookup("<unk>") == -1
    assert len(vocabulary) == 4
    vocabulary.save(tmp_path / "a.json")
    (tmp_path / "a.txt").write_text("\ufeff<unk>\nNO \r\n\n été\r \na b\n", newline="")
    (tmp_path / "b.json").write_text(json.dumps({a: i for i, a in reversed([*enumerate(labels)])}))
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(labels, 2))
    (tmp_path / "dict.pkl").write_bytes(pickle.dumps({a: i for i, a in enumerate(labels)}, 0))
    (tmp_path / "crlf.txt").write_bytes("\r\n".join(labels).encode())
    for path in tmp_path.iterdir():
        loaded = AnswerVocabulary.load(path)
        assert loaded.labels == tuple(labels), path
        assert loaded.fingerprint == vocabulary.fingerprint
    assert AnswerVocabulary(other).fingerprint != vocabulary.fingerprint


@pytest.mark.parametrize(
    ("name", "contents", "match"),
    [
        ("a.json", '["no", "yes", "no"]', r"'no' at labels 0 and 2"),
        ("a.json", '{"no": 0, "yes": 2}', r"none of these: \[1\]"),
        ("a.json", '{"no": 0, "yes": 0}', r"none of these: \[1\]"),
        ("a.json", '{"no": "0"}', r"'label'.*a\.json, answer 'no'.*whole number.*str '0'"),
        ("a.json", '{"no": true}', r"whole number.*bool True"),
        ("a.json", '["no", 1]', r"label 1.*a string.*int 1"),
        ("a.json", "[]", r"is empty"),
        ("a.json", '"no"', r"a list.*str 'no'"),
        ("a.json", '["no"', r"malformed JSON"),
        ("a.txt", "\n \n", r"is empty"),
        ("a.txt", "no\nno\n", r"labels 0 and 1"),
        ("a.csv", "no", r"unknown form of an answer list.*'\.csv'"),
        ("a.pkl", "cos\nsystem\n(S'true'\ntR.", r"a\.pkl"),
    ],
)
def test_bad_files(tmp_path, name, contents, match):
    (tmp_path / name).write_text(contents)
    with pytest.raises(DataError, match=f"(?s){match}"):
        AnswerVocabulary.load(tmp_path / name)


def test_missing_file_and_answers_that_are_no_lines(tmp_path):
    with pytest.raises(DataError, match=r"(?s)cannot be read.*none\.json"):
        AnswerVocabulary.load(tmp_path / "none.json")
    AnswerVocabulary(["no", ""]).save(tmp_path / "a.json")
    assert AnswerVocabulary.load(tmp_path / "a.json").labels == ("no", "")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_published_lists():
    folder = REAL / "vqa_vocab"
    names = ("trainval_label2ans.json", "trainval_ans2label.pkl", "uniter_ans2label.json")
    lists = [AnswerVocabulary.load(folder / name) for name in names]
    assert [len(found) for found in lists] == [3129] * 3
    assert len({found.fingerprint for found in lists}) == 3
    assert len({frozenset(found.labels) for found in lists}) == 1
    again = AnswerVocabulary.load(folder / "trainval_ans2label.json")
    assert again.fingerprint == lists[0].fingerprint
    assert len(AnswerVocabulary.load(folder / "gqa_label2ans.json")) == 1842
