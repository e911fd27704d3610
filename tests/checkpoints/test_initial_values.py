"""Parameters computed from a checkpoint's: answers from words, choices from alignment."""

import types

import golden_files
import golden_tasks
import jax
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from checkpoints import initial_values, sources, transfer
from configs import vqa as vqa_config
from input_pipeline.schema import SpecialIds
from objectives import base, choice, vqa
from objectives.model import MultiTaskModel
from vl_models import layers, loading
from vl_models.published import translate

WORDS, SEGMENTS = "trunk/embeddings/word/embedding", "trunk/embeddings/segment/embedding"
IMAGES = "trunk/regions/projection/kernel"
ALIGNMENT = "heads/alignment/classifier"
VQA = vqa_config.get_config("model=vlbert").objectives.vqa.to_dict()
CHOICE = dict(
    weight=1.0, pairs="texts", choices=4, loss="softmax", dropout=0.1, head="choice",
    classifier="1fc", width=0, head_init="alignment", segment_b="copy",
)  # fmt: skip
TABLE = np.array([[0, 0], [1, 10], [2, 20], [6, 30], [9, 90]], np.float32)
# "cat", "two ##s dog", one word, nothing at all
PIECES = ([1], [1, 2, 3], [4], [])
LISTS = base.OutputLists(answers=tuple("abcd"), answer_pieces=PIECES)


def answers(**changes):
    data_info = base.DataInfo(SpecialIds(0, 0, 0, 0, 0, 5), 8, 3, 0, True, LISTS)
    return vqa.AnswerQuestions("vqa", ConfigDict(VQA | changes), data_info)


def choices(**changes):
    return choice.Choice("choice", ConfigDict(CHOICE | changes), made_objectives.DATA_INFO)


def source(kind="run", **more):
    """A checkpoint with a word table and what is given, under made names."""
    arrays = {WORDS: TABLE} | {path: np.asarray(x, np.float32) for path, x in more.items()}
    return sources.Source("x", kind, arrays, {path: f"their {path}" for path in arrays})


def fit(task, found, **shapes):
    """(`found` in a model of the word table and these arrays, {path: its line in the report})."""
    flat = {WORDS: TABLE} | {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    model = loading.unflatten(flat)
    fitted = transfer.fit(found, model, model="vlbert", warm_start=task.warm_start())
    out = initial_values.add(fitted, found, model, task.initial_values)
    return out, {line.path: line for line in out.report}


KERNEL, BIAS = "heads/vqa/classifier/kernel", "heads/vqa/classifier/bias"
ANSWER_HEAD = {KERNEL: (2, 4), BIAS: (4,)}


def test_an_answer_starts_as_the_mean_of_its_words():
    out, lines = fit(answers(), source(), **ANSWER_HEAD)
    assert out.arrays[KERNEL].T.tolist() == [[1, 10], [3, 20], [9, 90], [0, 0]]
    assert out.known[KERNEL].tolist() == [[True, True, True, False]]  # nothing to start from
    assert out.arrays[BIAS].tolist() == [0, 0, 0, 0]
    assert BIAS not in out.known
    assert lines[KERNEL].fate == lines[BIAS].fate == "mapped"
    assert lines[KERNEL].name == f"their {WORDS}"
    text = transfer.table(out.report)
    assert "from the word embeddings of 3 of 4 answers" in text
    assert "3 arrays mapped, 0 arrays initial, 0 arrays dropped" in text
    fresh = loading.unflatten({KERNEL: jax.numpy.full((2, 4), 7.0)})
    kernel = transfer.place(out, fresh)["heads"]["vqa"]["classifier"]["kernel"]
    assert np.asarray(kernel).T.tolist() == [[1, 10], [3, 20], [9, 90], [7, 7]]


def test_pieces_that_the_source_lacks_do_not_count():
    known = np.array([[True], [True], [False], [True], [False]])
    values = answers().initial_values({WORDS: TABLE}, {WORDS: known})
    kernel = values[KERNEL]
    assert kernel.array.T.tolist() == [[1, 10], [3.5, 20], [0, 0], [0, 0]]
    assert kernel.known.tolist() == [[True, True, False, False]]
    assert kernel.note == "from the word embeddings of 2 of 4 answers"


def test_a_head_that_was_brought_along_is_kept():
    kernel, bias = np.arange(8).reshape(2, 4), np.arange(4)
    out, lines = fit(answers(), source(**{KERNEL: kernel, BIAS: bias}), **ANSWER_HEAD)
    assert np.array_equal(out.arrays[KERNEL], kernel)
    assert np.array_equal(out.arrays[BIAS], bias)
    assert lines[KERNEL].note == ""


def test_random_classifiers_stay_so():
    out, lines = fit(answers(classifier_init="random"), source(), **ANSWER_HEAD)
    assert (lines[KERNEL].fate, KERNEL in out.arrays) == ("initial", False)
    for model, start in (("vlbert", "words"), ("vilbert", "random"), ("single_stream", "random")):
        config = vqa_config.get_config(f"model={model}")
        assert config.objectives.vqa.classifier_init == start


@pytest.mark.parametrize(
    "change", [dict(classifier="2fc"), dict(classifier="1fc"), dict(width=8), dict(form="pooled")]
)
def test_words_need_a_head_that_reads_as_the_word_head_does(change):
    sizes = layers.LayerSizes(hidden=2, heads=1, intermediate=4)
    trunk = made_objectives.MadeTrunk(sizes)
    assert answers().head(trunk).module == "classifier"
    assert answers(width=2).head(trunk).module == "classifier"
    with pytest.raises(
        ValueError, match=r"='words' needs form='masked_answer'(?s:.*)fix: --config"
    ):
        answers(**change).head(trunk)
    answers(**change, classifier_init="random").head(trunk)


def test_a_choice_starts_as_the_log_odds_of_a_match():
    kernel = [[1.0, 4.0], [2.0, -1.0]]  # columns: mismatch, match
    found = source(**{f"{ALIGNMENT}/kernel": kernel, f"{ALIGNMENT}/bias": [0.5, 0.25]})
    shapes = {"heads/choice/classifier/kernel": (2, 1), "heads/choice/classifier/bias": (1,)}
    out, lines = fit(choices(), found, **shapes)
    assert out.arrays["heads/choice/classifier/kernel"].tolist() == [[3], [-3]]
    assert out.arrays["heads/choice/classifier/bias"].tolist() == [-0.25]
    line = lines["heads/choice/classifier/kernel"]
    assert (line.fate, line.name) == ("mapped", f"their {ALIGNMENT}/kernel")
    assert line.note == "match minus mismatch of the alignment head"
    assert not [line for line in out.report if line.fate == "dropped"]

    out, lines = fit(choices(head_init="random"), found, **shapes)
    assert lines["heads/choice/classifier/kernel"].fate == "initial"
    assert [line.fate for line in out.report].count("dropped") == 2
    out, lines = fit(choices(), source(), **shapes)  # no alignment head
    assert lines["heads/choice/classifier/kernel"].fate == "initial"
    own = {"heads/choice/classifier/kernel": [[7], [8]], "heads/choice/classifier/bias": [9]}
    out, lines = fit(choices(), source(**found.arrays | own), **shapes)
    assert out.arrays["heads/choice/classifier/kernel"].tolist() == [[7], [8]]
    assert [line.fate for line in out.report].count("dropped") == 2


SEGMENT_ROWS = [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("change", "more", "copied"),
    [
        ({}, {IMAGES: [[0, 0]]}, True),
        ({}, {IMAGES: [[0, 0]], "heads/masked_language/bias": [0] * 5}, True),
        ({}, {IMAGES: [[0, 0]], "heads/grounding/classifier/bias": [0]}, True),
        ({}, {}, False),  # a text model knows both
        ({}, {IMAGES: [[0, 0]], "heads/vqa/classifier/bias": [0]}, False),
        ({}, {IMAGES: [[0, 0]], "heads/choice/classifier/bias": [0]}, False),
        (dict(segment_b="as_loaded"), {IMAGES: [[0, 0]]}, False),
    ],
)
def test_the_second_segment_starts_as_the_first_where_it_was_never_trained(change, more, copied):
    found = source(**{SEGMENTS: SEGMENT_ROWS}, **more)
    out, lines = fit(choices(**change), found, **{SEGMENTS: (3, 2), IMAGES: (1, 2)})
    expected = [[1, 2], [1, 2], [5, 6]] if copied else SEGMENT_ROWS
    assert out.arrays[SEGMENTS].tolist() == expected
    assert found.arrays[SEGMENTS].tolist() == SEGMENT_ROWS
    note = "segment B starts as segment A, which alone was trained"
    assert lines[SEGMENTS].note == (note if copied else "")
    assert lines[SEGMENTS].fate == "mapped"


def test_a_head_that_itself_starts_as_a_copy_trained_no_segment(monkeypatch):
    task, transform = choices(), "transform/kernel"
    copy = {"heads/vqa": "heads/masked_language"}  # beside, a stream of questions
    monkeypatch.setattr(task, "warm_start", lambda: copy)
    words = {f"heads/masked_language/{transform}": [[0]]}
    found = source(**{SEGMENTS: SEGMENT_ROWS, IMAGES: [[0, 0]]} | words)
    out, _ = fit(
        task, found, **{SEGMENTS: (3, 2), IMAGES: (1, 2), f"heads/vqa/{transform}": (1, 1)}
    )
    assert f"heads/vqa/{transform}" in out.arrays
    assert out.arrays[SEGMENTS].tolist() == [[1, 2], [1, 2], [5, 6]]


def test_what_was_changed_on_the_way_stays_in_the_report():
    found = source(**{IMAGES: [[0, 0]]})
    found.arrays[SEGMENTS] = np.array(SEGMENT_ROWS, np.float16)
    found.names[SEGMENTS] = "theirs"
    out, lines = fit(choices(), found, **{SEGMENTS: (3, 2), IMAGES: (1, 2)})
    assert lines[SEGMENTS].note.startswith("was float16; segment B starts as")
    assert out.arrays[SEGMENTS].dtype == np.float32


def published_alignment():
    """VL-BERT with its relationship head, as a source, and the golden file."""
    golden = golden_files.Golden(golden_files.files("vlbert_pretrain_normfirst_rel.npz")[0])
    found = translate.translate("vlbert", golden.state_dict(dict(translate.ALIASES["vlbert"])))
    return golden, sources.Source("x", "vlbert", found.arrays, found.names, found.dropped)


def test_a_published_pretraining_checkpoint_starts_multiple_choice():
    golden, found = published_alignment()
    golden.meta |= dict(cls_id=2, sep_id=3)  # captions came with theirs
    task = golden_tasks.task_of(golden, {"choice": CHOICE}, pooler=True)
    size, width = 1, golden["in/boxes"].shape[-1] - 4
    ids, regions = np.zeros((size, 4, 6), np.int32), np.zeros((size, 1, 2, width), np.float32)
    batch = dict(
        text_ids=ids, text_mask=ids == 0, segment_ids=ids, regions=regions,
        boxes=regions[..., :4], image_size=np.ones((size, 1, 2), np.float32),
        region_mask=np.ones((size, 1, 2), bool), label=np.zeros((size, 1), np.int32),
        _weight=np.ones(size, np.float32),
    )  # fmt: skip
    shapes = jax.eval_shape(task.init, jax.random.key(0), {golden_tasks.STREAM: batch})
    fitted = transfer.fit(found, shapes, model="vlbert", warm_start=task.warm_start)
    out = initial_values.add(fitted, found, shapes, task.initial_values)
    state = golden.state_dict({})
    weight = state["vlbert.relationsip_head.caption_image_relationship.weight"]
    kernel = out.arrays["heads/choice/classifier/kernel"]
    assert np.array_equal(kernel[:, 0], weight[1] - weight[0])
    segments = state["vlbert.token_type_embeddings.weight"]
    assert np.array_equal(out.arrays[SEGMENTS], segments[[0, 0, 2]])
    assert not [line for line in out.report if line.fate == "initial"]
    text = transfer.table(out.report)
    assert "match minus mismatch of the alignment head" in text
    assert "relationsip" not in text  # its line is the head's


def test_objectives_of_all_streams_are_asked():
    config = vqa_config.get_config("model=vlbert")
    spec = types.SimpleNamespace(feature_dim=6, num_classes=0, global_feature="mean")
    task = MultiTaskModel(config, SpecialIds(0, 0, 0, 0, 0, 5), spec, dict(examples=LISTS))
    values = task.initial_values({WORDS: TABLE}, {})
    assert sorted(values) == [BIAS, KERNEL]
    assert values[KERNEL].array[:, 1].tolist() == [3, 20]


def test_two_layer_choice_head():
    sizes = layers.LayerSizes(hidden=2, heads=1, intermediate=4)
    trunk = made_objectives.MadeTrunk(sizes)
    head = choices(classifier="2fc", width=3, head_init="random").head(trunk).build(trunk)
    params = {
        "transform": {"kernel": np.array([[1.0, -1, 2], [0, 1, 1]]), "bias": np.array([0, 0, -9])},
        "classifier": {"kernel": np.array([[2.0], [3], [5]]), "bias": np.array([0.5])},
    }
    # ReLU of (1, 1, -5), then 2 + 3 + 0 + 0.5.
    states = jax.numpy.asarray([[1.0, 2.0]])
    assert head.apply({"params": params}, states).tolist() == [[5.5]]
    wide = choices(classifier="2fc", head_init="random").head(trunk).build(trunk)
    assert jax.eval_shape(wide.init, jax.random.key(0), states)["params"]["transform"][
        "kernel"
    ].shape == (2, 2)
    with pytest.raises(ValueError, match="head_init='alignment' is of one linear layer"):
        choices(classifier="2fc").head(trunk)


def test_names_of_the_two_layer_choice_head():
    golden = golden_files.Golden(golden_files.files("vlbert_vcr_sigmoid_region_loss.npz")[0])
    state = golden.state_dict(dict(translate.ALIASES["vlbert_vcr"]))
    assert translate.kind_of(state) == "vlbert_vcr"
    hidden = golden.meta["hidden_size"]
    last, first = (np.ones((1, 40), np.float32), np.ones((40, hidden), np.float32))
    state |= {"final_mlp.1.weight": first, "final_mlp.1.bias": np.zeros(40, np.float32),
              "final_mlp.4.weight": last, "final_mlp.4.bias": np.zeros(1, np.float32)}  # fmt: skip
    assert translate.kind_of(state) == "vlbert_vcr_2fc"
    arrays = translate.translate("vlbert_vcr_2fc", state).arrays
    assert arrays["heads/choice/transform/kernel"].shape == (hidden, 40)
    assert arrays["heads/choice/classifier/kernel"].shape == (40, 1)
    assert translate.kind_for("vlbert", arrays) == "vlbert_vcr_2fc"
    back = translate.to_torch("vlbert_vcr_2fc", arrays)
    assert sorted(back) == sorted(state)
    assert all(np.array_equal(back[name], array) for name, array in state.items())
