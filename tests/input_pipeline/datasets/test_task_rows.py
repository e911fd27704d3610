"""Records of other tasks become rows: what a task is to learn is in the batches."""

import json

import numpy as np
import pytest
from made_data import image, write_images
from ml_collections import ConfigDict

from configs import common
from configs import refcoco as config_file
from core.errors import DataError
from input_pipeline.datasets.records import (
    Expression,
    MultipleChoice,
    ObjectBox,
    Pointing,
    RowOptions,
    Statement,
    Token,
)
from input_pipeline.datasets.records.choices import KINDS
from input_pipeline.datasets.records.mentions import in_words
from input_pipeline.regions import FeatureSpec, RegionStore
from input_pipeline.streams import overlap, pipeline
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.source import Source
from input_pipeline.streams.stream import Stream
from input_pipeline.texts.tables import Row, build_table
from input_pipeline.texts.tokenizer import Tokenizer, train_wordpiece
from objectives import assemble, choice

SPEC = FeatureSpec("toy", 6)


@pytest.fixture
def config(tmp_path):
    """Two expressions a split, each meaning the second of its image's three regions."""
    images = [(str(i), image(i, 3, SPEC)) for i in (1, 2)]
    write_images(tmp_path / "store", SPEC, *images)
    for split, (number, one) in zip(("train", "val"), images, strict=True):
        x1, y1, x2, y2 = one["boxes"][1].tolist()
        listed = [
            {
                "sent": f"the thing {k}",
                "gt_box": [x1, y1, x2 - x1, y2 - y1],
                "pred_boxes": [[x1, y1, x2 - x1, y2 - y1]],
                "pred_boxes_img_id": [f"COCO_train2014_{int(number):012d}_0.jpg"],
            }
            for k in range(2)
        ]
        (tmp_path / "refcoco+").mkdir(exist_ok=True)
        (tmp_path / "refcoco+" / f"{split}.json").write_text(json.dumps(listed))
    config = config_file.get_config("data=refcoco")
    config.data.update(
        dir=str(tmp_path / "cache"),
        manual_dir=str(tmp_path),
        regions=str(tmp_path / "store"),
        candidates="listed",
        vocab_size=130,
    )
    config.streams.examples.update(
        batch_size=2, max_text=8, max_regions=5, max_length=13, resize=(30, 50)
    )
    return config


def test_overlap_is_measured_before_boxes_are_scaled(config):
    layouts = {"examples": assemble.caption}
    batch = pipeline.build_streams(config, layouts, image_margin=0)["examples"].batch(0)
    assert "target_box" not in batch
    original = image(1, 3, SPEC)
    boxes = np.concatenate([np.zeros((1, 4)), original["boxes"]])
    size = np.array([[[original["height"], original["width"]]]])
    mask = np.ones((1, 1, 4), bool)
    expected = overlap.region_iou(boxes[None, None], mask, size, original["boxes"][1:2])
    for row in batch["region_iou"]:
        np.testing.assert_allclose(row[0, :4], expected[0, 0], atol=1e-5)
        assert row[0, 2] > 0.999
        assert row[0, 4] == 0  # padding
    assert batch["boxes"].max() < 51  # and they are scaled
    plain = config.copy_and_resolve_references()
    plain.streams.examples.iou = "plain"
    other = pipeline.build_streams(plain, layouts, image_margin=0)["examples"]
    assert (other.batch(0)["region_iou"] <= batch["region_iou"] + 1e-6).all()
    assert (
        other.fingerprint
        != pipeline.build_streams(config, layouts, image_margin=0)["examples"].fingerprint
    )


def test_candidates_are_the_records_own(config):
    """Only the second region's box is offered; with candidates=regions all of them are."""
    layouts = {"examples": assemble.caption}
    batch = pipeline.build_streams(config, layouts, image_margin=0)["examples"].batch(0)
    assert batch["candidate_mask"].tolist() == [[[True, False, True, False, False]]] * 2


BOX = (1.0, 2.0, 3.0, 4.0)
OTHER = (5.0, 5.0, 9.0, 9.0)


def test_rows_of_one_text():
    expression = Expression("1", 2, "3", "a dog", BOX, (OTHER, BOX))
    (row,) = expression.rows(RowOptions(source=4))
    assert (row.image_id, row.text, row.text_id, row.source) == ("3", "a dog", "1", 4)
    assert row.values == {"target_box": BOX, "candidate_boxes": [*OTHER, *BOX]}
    (row,) = expression.rows(RowOptions(all_regions=True))
    assert row.values == {"target_box": BOX}
    (row,) = Statement("1", ("3", "4"), "both", 1).rows(RowOptions())
    assert (row.image_id, row.more_images, row.values) == ("3", ("4",), {"label": (1,)})
    pointing = Pointing("1", "3", "which?", (BOX, (0.0,) * 4, OTHER), (2, 0), 1)
    (row,) = pointing.rows(RowOptions())
    assert row.values == {"target_box": BOX, "option_boxes": [*OTHER, *BOX], "label": (1,)}


def multiple_choice(answer=2):
    def text(words):
        return tuple(
            Token("", (int(word),)) if word.isdigit() else Token(word) for word in words.split()
        )

    return MultipleChoice(
        text_id="q",
        image_id="still",
        height=50,
        width=60,
        question=text("what is 1 ?"),
        answers=tuple(map(text, ("a", "b 0", "c", "d"))),
        rationales=tuple(map(text, ("e", "f", "g", "0 and 1"))),
        answer_label=answer,
        rationale_label=3 if answer >= 0 else -1,
        objects=(ObjectBox("cat", BOX), ObjectBox("dog", OTHER)),
    )


def test_rows_of_a_question_with_choices():
    made = list(multiple_choice().rows(RowOptions(kind="answers", classes=("dog", "cat"))))
    assert [row.text for row in made] == ["what is dog ?", "a", "b cat", "c", "d"]
    assert [row.follows for row in made] == [False, True, True, True, True]
    assert [row.text_id for row in made] == ["q", "q/0", "q/1", "q/2", "q/3"]
    assert made[0].values == {
        "label": (2,),
        "object_boxes": [*BOX, *OTHER],
        "object_classes": [2, 1],
    }
    assert made[0].mentions == ((8, 11, 1),)
    assert made[2].mentions == ((2, 5, 0),)
    made = list(multiple_choice().rows(RowOptions(kind="rationales")))
    assert [row.text for row in made] == ["what is dog ? c", "e", "f", "g", "cat and dog"]
    assert made[0].values == {"label": (3,), "object_boxes": [*BOX, *OTHER]}
    assert made[0].text[made[0].second :] == "c"
    assert made[4].mentions == ((0, 3, 0), (8, 11, 1))
    made = list(multiple_choice().rows(RowOptions(kind="rationales", joined_by="")))
    assert (made[4].text, made[4].mentions) == ("cat and dog", ((0, 3, 0), (8, 11, 1)))
    # That "and" is the text's own: objects of one mention stand one after the other.
    both = (Token("see"), Token("", (0, 1)))
    objects = multiple_choice().objects
    assert in_words(both, objects, "q")[0] == "see cat and dog"
    words, mentions = in_words(both, objects, "q", joined_by="")
    assert words == "see cat dog"
    assert [(m.start, m.end, m.object) for m in mentions] == [(4, 7, 0), (8, 11, 1)]


def test_rationales_of_every_answer_where_the_right_one_is_unknown():
    made = list(multiple_choice(answer=-1).rows(RowOptions(kind="rationales")))
    questions = [row for row in made if not row.follows]
    assert len(made) == 20
    assert [row.text_id for row in questions] == ["q/a0", "q/a1", "q/a2", "q/a3"]
    assert [row.text for row in questions] == [
        f"what is dog ? {answer}" for answer in ("a", "b cat", "c", "d")
    ]
    assert questions[1].mentions == ((8, 11, 1), (16, 19, 0))
    assert {row.values["label"] for row in questions} == {(-1,)}


def test_choices_need_a_task_and_known_classes():
    with pytest.raises(DataError, match=r"(?s)two kinds.*config.data.records.*'captions'"):
        list(multiple_choice().rows(RowOptions(kind="captions")))
    with pytest.raises(DataError, match=r"(?s)unknown class.*'q'.*\['dog'\].*\['cat'\]"):
        list(multiple_choice().rows(RowOptions(kind="answers", classes=("dog",))))


def test_batches_of_questions_with_choices(tmp_path):
    """Through table and stream: choices beside their question, mentions as rows of regions."""
    store = tmp_path / "store"
    arguments = image(3, 2, SPEC) | dict(boxes=np.array([OTHER, BOX], np.float32))
    write_images(store, SPEC, ("still", arguments))
    texts = [row for kind in KINDS for row in multiple_choice().rows(RowOptions(kind=kind))]
    words = tmp_path / "vocab.txt"
    train_wordpiece([row.text for row in texts], 130, words)
    tokenizer = Tokenizer.load(words)
    table = build_table(texts, tokenizer, tmp_path / "table", source="s")
    examples = np.flatnonzero(table.examples())
    assert examples.tolist() == [0, 5]
    assert table.followers(np.array([0, 5, 3])).tolist() == [4, 4, 1]
    options = common.stream_block((), 2)
    options.update(max_text=14, max_regions=4, max_length=18, order="stored")
    stream = Stream(
        "choices",
        Source(table, examples, RegionStore.open(str(store)), np.zeros(1, np.int64)),
        ConfigDict(options),
        choice.Texts(4),
        tokenizer,
        DrawSettings(seed=0, batch_size=2, training=False),
    )
    batch = stream.batch(0)
    assert batch["label"].tolist() == [[2], [3]]
    assert batch["text_ids"].shape == (2, 4, 14)
    dog, cat = (tokenizer.vocab[word] for word in ("dog", "cat"))
    # The store lists the dog (OTHER) first: regions are found by their boxes.
    regions = batch["token_region"]
    assert (regions[batch["text_ids"] == dog] == 1).all()
    assert (regions[batch["text_ids"] == cat] == 2).all()
    assert (
        np.count_nonzero(regions) == np.isin(batch["text_ids"], (dog, cat)).sum() == 4 + 1 + 4 + 2
    )
    assert stream.num_examples == 2


@pytest.mark.parametrize(("answer", "longest"), [(2, 0), (-1, 0), (-1, 9)])
def test_a_split_without_labels_is_not_cut(tmp_path, capsys, answer, longest):
    write_images(tmp_path / "store", SPEC, ("still", image(3, 2, SPEC)))
    words, record = tmp_path / "vocab.txt", multiple_choice(answer)
    texts = list(record.rows(RowOptions(kind="rationales")))
    train_wordpiece([row.text for row in texts], 130, words)
    tokenizer = Tokenizer.load(words)
    table = build_table(texts, tokenizer, tmp_path / "table", source="s")
    options = common.stream_block((), 2)
    options.update(max_text=7, max_regions=3, max_length=10, order="stored")
    stream = Stream(
        "choices",
        Source(
            table,
            np.flatnonzero(table.examples()),
            RegionStore.open(str(tmp_path / "store")),
            np.zeros(1, np.int64),
        ),
        ConfigDict(options),
        choice.Texts(4, "question"),
        tokenizer,
        DrawSettings(seed=0, batch_size=4, training=False, longest_text=longest),
    )
    batch = stream.batch(0)
    length = batch["text_mask"].sum(-1)
    pieces = np.diff(table.offsets).reshape(-1, 5)  # of a question and its four choices
    whole = pieces[:, :1] + pieces[:, 1:] + 3
    if answer >= 0:
        assert whole.min() > 7
        assert length[0].tolist() == [7] * 4
    elif longest:  # of what the model has positions for, as much as there are
        assert batch["text_ids"].shape == (4, 4, 9)
        told = capsys.readouterr()
        assert "are cut to 9: config.model.positions" in told.out + told.err
    else:
        assert length.tolist() == whole.tolist()
        assert batch["text_ids"].shape[-1] == whole.max() > 7
    assert batch["region_mask"].sum(-1).min() == 3


def test_a_choice_without_words_is_an_error_even_when_skipping(tmp_path):
    words = tmp_path / "vocab.txt"
    train_wordpiece(["what is it"], 120, words)
    made = [Row("a", "what", "q"), Row("a", " ", "q/0", follows=True)]
    with pytest.raises(DataError, match=r"(?s)a text is empty.*'q/0'"):
        build_table(made, Tokenizer.load(words), tmp_path / "t", source="s", on_missing="skip")


def test_two_images_an_example(tmp_path):
    words = tmp_path / "vocab.txt"
    train_wordpiece(["what is it"], 120, words)
    tokenizer = Tokenizer.load(words)
    pairs = [Row("a", "what", "1", more_images=("b",)), Row("b", "is it", "2", more_images=("c",))]
    table = build_table(pairs, tokenizer, tmp_path / "t", source="s")
    assert table.images == ["a", "b", "c"]
    assert table.images_of(np.arange(2)).tolist() == [[0, 1], [1, 2]]
    with pytest.raises(DataError, match=r"(?s)different numbers of images.*'3'.*expected: 2"):
        build_table([*pairs, Row("c", "it", "3")], tokenizer, tmp_path / "u", source="s")
