"""python -m inference: flags, files of questions, and what is printed."""

import inspect
import json

import pytest

from core.errors import UserError
from inference import __main__ as command
from inference import abilities, loading
from tests.inference import made_models

IMAGE = "7"
QUESTION = "what colour is the cube?"


@pytest.fixture(scope="module")
def model():
    return made_models.run("vqa", "data=jsonl,model=vilbert").shared


@pytest.fixture
def asked(model, monkeypatch):
    """A model of questions, and the options that it was opened with."""
    opened = {}

    def load(place, **options):
        opened.update(options, place=place)
        return model

    monkeypatch.setattr(command, "load", load)
    return model, opened


def run(capsys, *argv):
    status = command.main(list(argv))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_question_by_flags(asked, capsys, tmp_path):
    model, opened = asked
    expected = model.answer(QUESTION, IMAGE, 2)
    page = tmp_path / "answers.html"
    flags = ("--image", IMAGE, "--regions=STORE", "--top=2")
    status, out, _ = run(capsys, "RUN", "answer", QUESTION, *flags, f"--html={page}")
    assert status == 0
    assert expected.answer in out
    assert QUESTION in out
    shapes = {"batch_sizes", "lengths"}
    assert set(opened) == set(inspect.signature(loading.load).parameters) - shapes
    given = {name: value for name, value in opened.items() if value not in (None, "", [], {})}
    assert given == dict(place="RUN", regions="STORE", long_texts="error")
    assert "<svg" in page.read_text()
    _, out, _ = run(capsys, "RUN", "answer", QUESTION, *flags, "--json")
    assert json.loads(out) == expected.to_dict()


def test_questions_of_a_file(asked, capsys, tmp_path):
    model, _ = asked
    path = tmp_path / "questions.jsonl"
    lines = [dict(question=QUESTION, image=IMAGE), dict(question="is it red?", image=IMAGE)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, out, _ = run(capsys, "RUN", "answer", f"--jsonl={path}", "--json")
    assert status == 0
    expected = model.answer([line["question"] for line in lines], IMAGE)
    assert [json.loads(line) for line in out.splitlines()] == [x.to_dict() for x in expected]
    for line, message in (
        ('{"question": "x"}', r"questions.jsonl:3"),
        ('{"question": "x", "image": "y", "images": 1}', "an object with"),
        ("[1", "questions.jsonl:3"),
        (json.dumps(dict(question=" ", image=IMAGE)), "item 2 of 3"),
    ):
        path.write_text("".join(json.dumps(one) + "\n" for one in lines) + line)
        status, out, err = run(capsys, "RUN", "answer", f"--jsonl={path}")
        assert status == 1
        assert message in err
        assert not out


def test_what_a_model_is_and_can(asked, capsys):
    _, out, _ = run(capsys, "RUN")
    assert "it can:" in out
    assert "answer" in out
    assert "vilbert, 2 layers, 16 wide" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("ground", "the cube", f"--image={IMAGE}"), "it can: answer, embed, attention"),
        (("answer", f"--image={IMAGE}"), "answer takes one text"),
        (("answer", "a", "b", f"--image={IMAGE}"), "answer takes one text"),
        (("answer", QUESTION), "there is no image"),
        (("answer", QUESTION, f"--image={IMAGE}", "--choice=a"), "does not take --choice"),
        (("point", "x", f"--image={IMAGE}", "--box=1,2,3"), "--box is no box"),
    ],
)
def test_what_is_wrong_is_told(asked, capsys, argv, message):
    status, out, err = run(capsys, "RUN", *argv)
    assert status == 1
    assert message in err
    assert not out


def test_flags_become_what_verbs_take():
    def of(*argv):
        return command._asked(command.parser().parse_args(["RUN", *argv]))

    box = (1.0, 2.0, 3.0, 4.0)
    assert of("ground", "x", "--image=a", "--box=1,2,3,4") == [
        dict(expression="x", image="a", candidates=[box])
    ]
    assert of("point", "x", "--image=a", "--box=1,2,3,4") == [
        dict(text="x", image="a", boxes=[box])
    ]
    assert of("classify", "x", "--image=a", "--image=b") == [dict(text="x", images=["a", "b"])]
    assert of("rank", "x", "y", "--image=a") == [dict(texts=["x", "y"], images=["a"])]
    assert of("choose", "x", "--image=a", "--choice=p", "--choice=q", "--object=cat,1,2,3,4") == [
        dict(question="x", image="a", choices=["p", "q"], objects=[("cat", box)])
    ]
    for verb in abilities.VERBS:
        assert command.parameters(verb)
    for flag in ("--image=a", "--choice=p", "--answer=q", "--object=cat,1,2,3,4", "--box=1,2,3,4"):
        with pytest.raises(UserError, match="named twice"):
            of("choose", "--jsonl=asked.jsonl", flag)
