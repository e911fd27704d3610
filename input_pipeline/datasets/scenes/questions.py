"""Open questions on a scene, with the answers of ten annotators of whom some err.

The text alone tells no answer, by construction:
- yes or no: all but the attribute words is fixed first; where the scene has words for either
  answer a coin decides, and the words are drawn from those that give it. All words of a kind are
  alike to a scene (graph.py), so they come equally often with yes and with no.
- how many: of n objects, a phrase that fits an object with probability q fits a binomial number.
  A question is kept with a probability that makes its answer equally distributed for every q.
- what colour: the text mentions no colour, nor does the choice of its words depend on one.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline.datasets.reading import answers as answers_lib
from input_pipeline.datasets.records import AnnotatedQuestion, Answer
from input_pipeline.datasets.scenes import captions, graph
from input_pipeline.datasets.scenes.references import (
    KINDS,
    by_attributes,
    perhaps,
    phrase,
    plainly,
    plural,
    reference,
    without,
    words,
)

ANNOTATORS = 10
# A question is easy or hard: the probability that an annotator errs. At most _MOST_WRONG do.
_DIFFICULTY = (0.0, 0.05, 0.15)
_MOST_WRONG = 4
_YES_NO = _OTHER = 2  # questions of a type, where the scene has as many
_PER_FORM = 2  # tries of each form of `how many`
_MOST_COUNTED = 3
SIDES = {"left of": "left", "right of": "right", "above": "above", "below": "below"}

# (text, answer, question type, all answers that fit the question), or None
_Made = tuple[str, str, str, tuple[str, ...]] | None
_Form = Callable[[graph.Scene, np.random.Generator], _Made]


def pick(rng: np.random.Generator, options: Sequence):
    """One of the options, any of them equally likely."""
    return options[int(rng.integers(len(options)))]


def all_words(kinds: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Every choice of one word of each kind."""
    return list(itertools.product(*(graph.ATTRIBUTES[kind] for kind in kinds)))


def nearest(
    options: list[tuple[str, ...]], objects: Sequence[graph.Object], kinds: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Of all options those that differ least from an object: what is false is nearly true."""

    there = [words(o, kinds) for o in objects]
    distances = [
        min(sum(a != b for a, b in zip(said, own, strict=True)) for own in there)
        for said in options
    ]
    least = min(distances, default=0)
    return [said for said, far in zip(options, distances, strict=True) if far == least]


def _coin(rng: np.random.Generator, true: Sequence, false: Sequence) -> tuple[str, object] | None:
    """("yes" or "no", one of its options); None where either has none, lets no answer leak."""
    if not true or not false:
        return None
    answer = pick(rng, ("yes", "no"))
    return answer, pick(rng, true if answer == "yes" else false)


def _exists(scene: graph.Scene, rng: np.random.Generator) -> _Made:
    kinds = pick(rng, MENTIONS)
    there = {words(o, kinds) for o in scene.objects}
    options = all_words(kinds)
    absent = nearest([w for w in options if w not in there], scene.objects, kinds)
    found = _coin(rng, [w for w in options if w in there], absent)
    if found is None:
        return None
    answer, said = found
    opening = pick(rng, ("is there a", "is there any", "do you see a"))
    return f"{opening} {phrase(kinds, said)}?", answer, "is there", YES_NO


def _has_attribute(scene: graph.Scene, rng: np.random.Generator) -> _Made:
    kind, i = pick(rng, KINDS), pick(rng, range(len(scene.objects)))
    named = reference(scene, i, without(kind), rng)
    own = getattr(scene.objects[i], kind)
    rest = [w for w in graph.ATTRIBUTES[kind] if w != own]
    # Wrong words are those of other objects, where these have any.
    wrong = [w for w in rest if w in {getattr(o, kind) for o in scene.objects}] or rest
    found = _coin(rng, [own], wrong)
    if named is None or found is None:
        return None
    answer, word = found
    is_it = {"shape": f"a {word}", "material": f"made of {word}"}.get(kind, word)
    return f"is the {named} {is_it}?", answer, "is the", YES_NO


def _two(scene: graph.Scene, rng: np.random.Generator, kinds: tuple[str, ...]):
    """Phrases of attributes of two objects, with their indices; pairs in a random order."""
    pairs = list(itertools.permutations(range(len(scene.objects)), 2))
    for n in rng.permutation(len(pairs)).tolist():
        named = [by_attributes(scene, i, kinds, rng) for i in pairs[n]]
        if None not in named:
            yield *pairs[n], *named


def _is_related(scene: graph.Scene, rng: np.random.Generator) -> _Made:
    for i, j, first, second in _two(scene, rng, KINDS):
        a, b = scene.objects[i], scene.objects[j]
        relation = plainly(a, b)
        if relation is None:
            continue
        # The opposite at least is false.
        answer, said = _coin(rng, [relation], [r for r in graph.RELATIONS if not perhaps(a, r, b)])
        wording = pick(rng, captions.RELATION_WORDINGS[said])
        return f"is the {first} {wording} the {second}?", answer, "is the", YES_NO
    return None


def _same(scene: graph.Scene, rng: np.random.Generator) -> _Made:
    kind = pick(rng, KINDS)
    texts: dict[bool, list[str]] = {True: [], False: []}
    for i, j, first, second in _two(scene, rng, without(kind)):
        a, b = scene.objects[i], scene.objects[j]
        texts[getattr(a, kind) == getattr(b, kind)].append(f"the {first} and the {second}")
    found = _coin(rng, texts[True], texts[False])
    if found is None:
        return None
    of = "made of the same material" if kind == "material" else f"the same {kind}"
    return f"are {found[1]} {of}?", found[0], "are the", YES_NO


def _more(scene: graph.Scene, rng: np.random.Generator) -> _Made:
    kinds = (pick(rng, KINDS),)
    have = [words(o, kinds) for o in scene.objects]
    pairs = list(itertools.permutations(all_words(kinds), 2))
    found = _coin(
        rng,
        [(a, b) for a, b in pairs if have.count(a) > have.count(b)],
        [(a, b) for a, b in pairs if have.count(a) < have.count(b)],
    )
    if found is None:
        return None
    answer, (a, b) = found
    return (
        f"are there more {plural(kinds, a)} than {plural(kinds, b)}?",
        answer,
        "are there",
        YES_NO,
    )


# Forms of `how many`: (kinds, whether two words of the kind are joined by "or").
_COUNTED = (
    (("colour",), False),
    (("shape",), False),
    (("size",), False),
    (("material",), False),
    (("size", "material"), False),
    (("colour",), True),
    (("shape",), True),
)


def _share(kinds: tuple[str, ...], either: bool) -> float:
    """Probability that a phrase of a form fits an object."""
    return (1 + either) / math.prod(len(graph.ATTRIBUTES[kind]) for kind in kinds)


@functools.cache
def _kept(objects: int) -> tuple[float, dict[tuple[float, int], float]]:
    """{(share, count): probability of keeping the question}, for this number of objects.

    The answers of all forms get one distribution, in the ratio of the square roots of the least
    probabilities: more even than what comes by itself, without throwing nearly all away.
    """
    counts = range(min(objects, _MOST_COUNTED) + 1)
    shares = {_share(*form) for form in _COUNTED}
    natural = {
        (q, k): math.comb(objects, k) * q**k * (1 - q) ** (objects - k)
        for q in shares
        for k in counts
    }
    wanted = {k: math.sqrt(min(natural[q, k] for q in shares)) for k in counts}
    scale = min(natural[q, k] / wanted[k] for q in shares for k in counts)
    return {(q, k): scale * wanted[k] / natural[q, k] for q in shares for k in counts}


def _how_many(scene: graph.Scene, rng: np.random.Generator) -> list[_Made]:
    kept, made = _kept(len(scene.objects)), []
    for kinds, either in _COUNTED:
        options = [frozenset((w,)) for w in all_words(kinds)]
        if either:
            options = [frozenset(pair) for pair in itertools.combinations(all_words(kinds), 2)]
        for n in rng.permutation(len(options))[:_PER_FORM].tolist():
            count = sum(words(o, kinds) in options[n] for o in scene.objects)
            if rng.random() >= kept.get((_share(kinds, either), count), 0):
                continue
            said = [plural(kinds, w) for w in sorted(options[n])]
            if either and kinds == ("colour",):
                said[0] = said[0].removesuffix(" things")  # "red or blue things"
            end = pick(rng, ("are there", "do you see", "are in the picture"))
            text = f"how many {' or '.join(said)} {end}?"
            made.append((text, str(count), "how many", NUMBERS))
    return made


def _what(kind: str) -> _Form:
    def form(scene: graph.Scene, rng: np.random.Generator) -> _Made:
        for i in rng.permutation(len(scene.objects)).tolist():
            named = reference(scene, i, without(kind), rng)
            if named is not None:
                opening = pick(rng, (f"what {kind} is", f"what is the {kind} of"))
                answer = getattr(scene.objects[i], kind)
                return f"{opening} the {named}?", answer, f"what {kind}", graph.ATTRIBUTES[kind]
        return None

    return form


def _where(scene: graph.Scene, rng: np.random.Generator) -> _Made:
    for i, j, first, second in _two(scene, rng, KINDS):
        relation = plainly(scene.objects[i], scene.objects[j])
        if relation is not None:
            text = f"where is the {first}, seen from the {second}?"
            return text, SIDES[relation], "where is", tuple(SIDES.values())
    return None


# Kinds of words in a mention.
MENTIONS = (
    ("colour",),
    ("shape",),
    ("colour", "shape"),
    ("size", "shape"),
    ("material", "shape"),
    ("size", "colour"),
    ("size", "colour", "shape"),
    ("colour", "material", "shape"),
)
YES_NO = ("yes", "no")
NUMBERS = tuple(map(str, range(_MOST_COUNTED + 2)))  # what annotators answer, right or wrong
_YES_NO_FORMS: tuple[_Form, ...] = (_exists, _has_attribute, _is_related, _same, _more)
_OTHER_FORMS: tuple[_Form, ...] = (*map(_what, KINDS), _where)


def _raw_answers(right: str, options: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """Ten answers in no telling order, most of them right; a wrong count is off by one."""
    wrong = [o for o in options if o != right]
    if options is NUMBERS:
        wrong = [o for o in wrong if abs(int(o) - int(right)) == 1]
    errors = min(int(rng.binomial(ANNOTATORS, pick(rng, _DIFFICULTY))), _MOST_WRONG)
    given = [right] * (ANNOTATORS - errors) + [pick(rng, wrong) for _ in range(errors)]
    return tuple(given[i] for i in rng.permutation(ANNOTATORS))


def questions(scene: graph.Scene, seed: int) -> tuple[AnnotatedQuestion, ...]:
    """Two questions of yes or no, two of looks or position, and a few counts.

    A pure function of scene and seed. `answers` and `raw_answers` are those of VQA v2: soft
    scores of ten annotators, the main answer first; it is the true one.
    """
    rng = graph.generator(seed, scene.image_id, "questions")
    made: list[tuple[_Made, str]] = []
    for answer_type, forms, most in (("yes/no", _YES_NO_FORMS, _YES_NO), ("other", _OTHER_FORMS,
                                                                          _OTHER)):  # fmt: skip
        drawn = (forms[n](scene, rng) for n in rng.permutation(len(forms)).tolist())
        found = itertools.islice((m for m in drawn if m is not None), most)
        made += [(m, answer_type) for m in found]
    made += [(m, "number") for m in _how_many(scene, rng)]
    records = []
    for n, ((text, answer, question_type, options), answer_type) in enumerate(made):
        raw = _raw_answers(answer, options, rng)
        scored = [Answer(*pair) for pair in answers_lib.soft_scores(raw, "verbatim").items()]
        scored.sort(key=lambda a: -raw.count(a.text))
        records.append(
            AnnotatedQuestion(
                text_id=f"{scene.image_id}-question-{n}",
                image_id=scene.image_id,
                text=text,
                answers=tuple(scored),
                raw_answers=raw,
                question_type=question_type,
                answer_type=answer_type,
            )
        )
    return tuple(records)
