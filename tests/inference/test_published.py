"""Published files: what they can be asked once it is said how they were trained."""

import dataclasses
import pathlib

import numpy as np
import pytest

from checkpoints import convert, export, sources
from core.errors import ConfigError, DataError, UserError
from inference import load
from inference.__main__ import parser
from inference.published import Description, described
from input_pipeline.texts import vocabulary
from tests.inference import made_models

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
IMAGE, QUESTION = "7", "what colour is the cube?"
# As the published files are.
MADE = {
    "vlbert": {
        "model.geometry.offset": (0.0, 0.0),
        "model.geometry.scale": (100.0, 100.0),
        "model.geometry.base": 1000.0,
        "objectives.vqa.classifier_init": "random",
    },
    "vilbert": {
        "model.geometry.offset": (0.0, 0.0),
        "model.geometry.scale": (1.0, 1.0),
        "model.connect.image_at": (0,),
    },
}
# What arrays do not tell, and mini does not have.
FIELDS = {
    "vlbert": {"model.hidden": 16, "model.heads": 2, "objectives.vqa.classifier_init": "random"},
    "vilbert": {
        "model.hidden": 16,
        "model.heads": 2,
        "model.image.hidden": 16,
        "model.image.heads": 2,
        "model.connect.hidden": 16,
        "model.connect.heads": 2,
    },
}


@pytest.fixture(scope="module", params=made_models.MODELS)
def published(request, tmp_path_factory):
    """(model, its run, folder with the file and its vocabulary, answer list)."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    made = made_models.run("vqa", f"data=jsonl,model={name}", **MADE[name])
    arrays = dict(made.source.arrays)
    if name == "vlbert":  # of masked regions: the published files all have one
        arrays["trunk/regions/mask"] = np.zeros(made_models.SPEC.feature_dim, np.float32)
    whole = dataclasses.replace(made.source, arrays=arrays)
    export.to_torch(whole, str(folder / "model.safetensors"))
    vocabulary.write(folder / "vocab.txt", made.source.pieces)
    answers = folder / "answers.txt"
    answers.write_text("".join(f"{one}\n" for one in made.source.answers))
    return name, made, folder, str(answers)


def opened(published, **changes):
    name, _, folder, answers = published
    given = dict(
        config=f"{CONFIGS / 'vqa.py'}:data=jsonl,model={name}",
        fields=FIELDS[name],
        regions=str(made_models.files() / "store"),
        answers=answers,
        batch_sizes=(4,),
        lengths=(),
    )
    return load(str(folder / "model.safetensors"), **given | changes)


def test_a_described_file_answers_as_the_run_that_it_came_from(published):
    expected = published[1].shared.answer(QUESTION, [IMAGE, "8"])
    model = opened(published)
    assert list(model.abilities) == ["answer", "embed", "attention"]
    assert [one.to_dict() for one in model.answer(QUESTION, [IMAGE, "8"])] == [
        one.to_dict() for one in expected
    ]


def test_a_file_alone_says_what_is_missing_and_how_to_give_it(published):
    model = load(str(published[2] / "model.safetensors"))
    with pytest.raises(ConfigError, match=r"(?s)does not say.*'vqa'.*config=.*--config="):
        model.answer(QUESTION, IMAGE)
    with pytest.raises(DataError, match=r"(?s)answers \(.*regions \(.*fix.*--answers=.*--regions="):
        opened(published, answers="", regions=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(answers=["red", "green"]), "(?s)head 'vqa'.*'outputs': 3.*'outputs': 2"),
        (dict(fields={"objectives.vqa.classifier": "1fc"}), "(?s)head 'vqa'.*'linear'"),
        (dict(fields={"objectives.vqa.clasifier": "1fc"}), "a field does not fit"),
        (dict(config="nowhere.py"), "config cannot be read"),
        (dict(config="vqa.py", argument="size=tiny"), "(?s)cannot be read.*size"),
        (dict(config="refcoco.py", fields=None), "(?s)another task.*grounding"),
        (dict(feature_spec="nowhere.json"), "spec cannot be read"),
        (dict(task_id=1), "has no task tokens"),
    ],
)
def test_what_does_not_fit_the_file_is_told(published, changes, message):
    changes = dict(changes)
    if "config" in changes:
        argument = changes.pop("argument", f"data=jsonl,model={published[0]}")
        changes["config"] = f"{CONFIGS / changes['config']}:{argument}"
    fields = changes.get("fields", {})
    changes["fields"] = {} if fields is None else FIELDS[published[0]] | fields
    with pytest.raises(UserError, match=message):
        opened(published, **changes).answer(QUESTION, IMAGE)


def test_a_task_without_answers_needs_no_list_of_them(published):
    name, _, folder, _ = published
    source = sources.open_source(str(folder / "model.safetensors"))
    (head,) = source.heads.values()
    source = dataclasses.replace(
        source, heads={"grounding": dataclasses.replace(head, named_by="")}
    )
    config = f"{CONFIGS / 'refcoco.py'}:data=jsonl,model={name}"
    found = described(source, Description(config, spec=made_models.SPEC))
    assert found.answers is None
    assert found.config["streams"]["examples"]["objectives"] == ["grounding"]


def test_a_run_needs_no_config(published, tmp_path):
    name, made, _, _ = published
    convert.to_folder(made.source, tmp_path / "shared")
    with pytest.raises(ConfigError, match="says itself"):
        load(str(tmp_path / "shared"), config=f"{CONFIGS / 'vqa.py'}:model={name}")


def test_the_command_line_takes_the_same():
    given = parser().parse_args(
        ["f.bin", "answer", "x", "--config=c.py:a=b", "--set=model.heads=8", "--label=a"]
    )
    assert (given.config, given.set, given.label) == ("c.py:a=b", ["model.heads=8"], ["a"])
