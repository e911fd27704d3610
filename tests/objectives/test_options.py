"""Options of objectives: declared with checks, completed in saved blocks, wrong ones named."""

import made_objectives
import pytest

import objectives
from core.errors import ConfigError
from objectives import options

WRONG = {
    "masked_language": dict(words="some", rate=1.5, whole_word=1, cap=0.0, normalize="meen"),
    "masked_region": dict(
        target="mse", rate=-0.1, keep=2, overlap="all", iou="x", image_row="mean", head_norm="no",
        negatives=0, elsewhere=float("nan"), normalize="sum",
    ),
    "alignment": dict(rate=float("inf"), drop_labels="yes"),
    "choice": dict(
        pairs="images", choices=1, classifier="3fc", width=-1, loss="mse", dropout=1.0,
        head_init="zero", segment_b="swap", cut_first="answer",
    ),
    "contrast": dict(couples=1, dropout=1.0, head_init="zero"),
    "classification": dict(classes=-1, images=3, classifier="2fc", dropout=-0.1, loss="mse"),
    "grounding": dict(classifier="2fc", dropout=2, target="hard", normalize="mean", hit="half"),
    "object_class": dict(classes=1),
    "phrase_grounding": dict(width=0, states="first", tagged=1.5),
    "vqa": dict(
        form="text", classifier="fc", width=0.5, classifier_init="zero", dropout="0",
    ),
}  # fmt: skip
EVERYWHERE = dict(weight=-1.0, head="a/b")


def test_every_kind_declares_its_options():
    assert options.known() == objectives.known() == sorted(WRONG)


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_every_option_has_a_check_that_its_default_passes(kind):
    block = options.of(kind)
    assert set(block) == set(options.checks(kind))
    options.require("mine", block)


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_wrong_options_are_named(kind):
    wrong = WRONG[kind] | EVERYWHERE
    assert set(wrong) | {"kind"} == set(options.of(kind))
    for name, value in wrong.items():
        with pytest.raises(ConfigError, match=rf"where: config\.objectives\.mine\.{name}\n"):
            objectives.build("mine", options.of(kind) | {name: value}, made_objectives.DATA_INFO)


def test_unknown_kinds_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"mine\.kind\n.*one of \['alignment'"):
        objectives.of_block("mine", dict(kind="contrasts"))
    with pytest.raises(ConfigError, match=r"one of \['alignment'"):
        objectives.find("losses")


def test_defaults_are_copies():
    options.of("masked_region")["rate"] = 1.0
    assert options.of("masked_region")["rate"] != 1.0


def test_saved_blocks_without_a_kind_have_their_names():
    old = dict(weight=2.0, rate=0.25, drop_labels=True)
    assert options.kind_of("alignment", old) == "alignment"
    assert options.completed("alignment", old) == dict(kind="alignment", head="", **old)
