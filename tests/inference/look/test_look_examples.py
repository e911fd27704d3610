"""Examples of a run's own data: their pairs are what the predictions were made of."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from checkpoints import share
from configs import common
from core.errors import DataError
from evaluation import predict
from evaluation.browser import page as browser
from evaluation.report import static_page
from evaluation.report.details import Measured
from inference import checkpoint
from inference.look.__main__ import main
from inference.look.examples import Examples
from tests.inference import made_models


@pytest.fixture(scope="module")
def choices():
    return made_models.run("vcr", "model=vlbert")


def logits_of(model, head, pairs, join):
    states = [np.asarray(model(pair.batch)["pooled"]) for pair in pairs]
    return model.head(head, np.concatenate(states, join))


def test_each_choice_of_a_question_with_its_objects(choices):
    model, rows = choices.model(), choices.predictions()
    data = Examples(checkpoint.opened(choices.source))
    for row in rows[:3]:
        pairs = data.pairs(row["id"])
        assert [pair.label for pair in pairs] == [f"choice {i}" for i in (1, 2, 3, 4)]
        assert any((pair.batch["token_region"] > 0).any() for pair in pairs)
        found = logits_of(model, "choice", pairs, 0)[:, 0]
        np.testing.assert_allclose(found, row["logits"], rtol=1e-4, atol=1e-5)
    record = {one.text_id: one for one in choices.records()}[rows[0]["id"]]
    assert data.pairs(rows[0]["id"])[0].image.key == record.image_id
    with pytest.raises(DataError, match="no such example"):
        data.pairs("none")
    with pytest.raises(DataError, match=r"expected: one of \['examples'\]"):
        Examples(checkpoint.opened(choices.source), "captions")


@pytest.mark.slow
def test_both_images_of_a_statement():
    made = made_models.run("nlvr2", "model=vilbert")
    model, rows = made.model(), made.predictions()
    data = Examples(checkpoint.opened(made.source))
    for row in rows[:3]:
        pairs = data.pairs(row["id"])
        assert [pair.label for pair in pairs] == ["image 1", "image 2"]
        assert pairs[0].image.key != pairs[1].image.key
        assert pairs[0].text == pairs[1].text
        (head,) = model.heads
        found = jax.nn.sigmoid(logits_of(model, head, pairs, -1)[0])
        np.testing.assert_allclose(found, row["probabilities"], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def shared(choices, tmp_path_factory):
    """The run as a shared folder, with a page of its predictions."""
    folder = tmp_path_factory.mktemp("look") / "run"
    source = choices.source
    share.write(
        folder,
        share.Shared(
            source.arrays, source.config, source.data_metadata, source.pieces, source.answers,
            1, "a test", heads=source.heads,
        ),
    )  # fmt: skip
    predictors = {"examples": choices.predictor}
    with jax.set_mesh(choices.mesh):
        answered = {"examples": list(choices.predictor.measured(choices.params))}
    config = ConfigDict(common.run_block())
    return folder, predict.write_browser(folder, predictors, answered, Measured(), config)


def test_a_page_of_predictions_gets_links_to_attention(shared, capsys):
    folder, path = shared
    assert main([str(folder), f"--report={path}", "--examples=3"]) == 0
    content = browser.read(path)
    worst = sorted(
        browser.examples_of(content),
        key=lambda one: (one["answers"][0]["right"] is not False, -one["answers"][0]["loss"]),
    )[:3]
    assert list(content["attention"]) == [f"examples\n{one['id']}" for one in worst]
    links = content["attention"][f"examples\n{worst[0]['id']}"]
    assert [label for label, _ in links] == [worst[0]["answers"][0]["predicted"], worst[0]["true"]]
    for _, link in links:
        assert link.startswith("predict-validation-attention/1-")
        made = static_page.content_of(path.parent / link)
        assert worst[0]["id"] in made["lines"][0]
        assert made["attention"]["maps"]
        assert made["picture"]["uri"].startswith("data:image/")
    assert f"{len(list((path.parent / 'predict-validation-attention').iterdir()))} pages" in (
        capsys.readouterr().out
    )


def test_the_command_of_one_example(shared, tmp_path, capsys):
    folder, path = shared
    name, out = browser.examples_of(browser.read(path))[0]["id"], tmp_path / "page.html"
    words = [str(folder), f"--example={name}", "--task=examples", "--split=validation"]
    assert main([*words, "--pair=2", f"--out={out}"]) == 0
    assert f"example {name}, choice 2" in static_page.content_of(out)["lines"][0]
    assert main([*words, "--pair=5", f"--out={out}"]) == 1
    assert "expected: 1 to 4" in capsys.readouterr().err
    assert main([*words[:2], "--split=none", f"--out={out}"]) == 1
    for arguments, message in (
        (words, "--out"),
        ([f"--example={name}", f"--out={out}"], "name RUN"),
        ([str(folder), "a text", f"--example={name}", f"--out={out}"], "those of the run's data"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
