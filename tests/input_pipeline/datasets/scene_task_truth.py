"""What the texts of the scene tasks claim, read from the text alone; apart from the tasks' code.

Two readings of positions: a claim must hold plainly (main direction, less than 27 degrees off);
what is denied, or must be no rival, may not even lie on that side.
"""

import math
import re

from scene_truth import COLOURS, MATERIALS, SHAPES, SIZES

KINDS = {"size": SIZES, "colour": COLOURS, "material": MATERIALS, "shape": SHAPES}
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split("|")}
_M = (
    rf"(?:(?:{SIZES}) )?(?:(?:{COLOURS}) )?(?:(?:{MATERIALS}) )?"
    rf"(?:(?:{SHAPES}|thing|object)s?|one)"
)
_REL = r"(?:to the |on the )?(?:left|right) of|above|over|higher than|below|under|lower than"
_EXT = r"at the very left|at the very right|at the very top|at the very bottom"
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


def matching(mention, scene):
    """The objects that fit a mention without article, singular or plural."""
    singular = [word.removesuffix("s") for word in mention.split()]
    said = [word for word in singular if word in _KIND_OF]
    assert singular[-1] in (*SHAPES.split("|"), "thing", "object", "one"), mention
    return [o for o in scene.objects if all(getattr(o, _KIND_OF[word]) == word for word in said)]


def _direction(words):
    """Unit vector of a relation, y downwards."""
    for names, vector in {
        ("left",): (-1, 0),
        ("right",): (1, 0),
        ("above", "over", "higher"): (0, -1),
        ("below", "under", "lower"): (0, 1),
    }.items():
        if set(names) & set(words.split()):
            return vector
    raise ValueError(words)


def on_side(a, words, b):
    """Loosely: a's centre lies on that side of b's."""
    u, v = _direction(words)
    return (a.x - b.x) * u + (a.y - b.y) * v > 0


def plain(a, words, b):
    """a lies in that direction from b, less than 27 degrees off."""
    u, v = _direction(words)
    off = math.atan2(a.y - b.y, a.x - b.x) - math.atan2(v, u)
    return abs(math.degrees(math.atan2(math.sin(off), math.cos(off)))) < 27


def referents(text, scene):
    """(objects that a phrase could loosely mean, those that it plainly means)."""
    text = text.removeprefix("the ")
    match = re.fullmatch(rf"({_M})(?: ({_REL}) the ({_M})| ({_EXT}))?", text)
    assert match, text
    head, relation, anchor, extreme = match.groups()
    objects = matching(head, scene)
    if extreme:
        axis, sign = {"left": ("x", -1), "right": ("x", 1), "top": ("y", -1), "bottom": ("y", 1)}[
            extreme.split()[-1]
        ]
        rank = {id(o): sign * getattr(o, axis) for o in scene.objects}
        most = max(rank.values())
        near = [o for o in objects if rank[id(o)] >= most - 5]
        return near, [o for o in near if rank[id(o)] == most]
    if relation:
        (anchor,) = matching(anchor, scene)
        objects = [o for o in objects if o is not anchor and on_side(o, relation, anchor)]
        return objects, [o for o in objects if plain(o, relation, anchor)]
    return objects, objects


def the(text, scene):
    """The one object a phrase means."""
    loosely, plainly = referents(text, scene)
    assert len(loosely) == 1, (text, scene)
    assert loosely == plainly, (text, scene)
    return loosely[0]


def _yes(value):
    return "yes" if value else "no"


def _counted(words, scene):
    """How many objects fit "red or blue things", "balls or cubes", "small metal things"."""
    first, _, second = words.partition(" or ")
    if not second:
        return len(matching(first, scene))
    if first in _KIND_OF:
        first += " things"
    return len(matching(first, scene)) + len(matching(second, scene))


def answer(text, scene):
    """The answer to a question; raises on one that it cannot read or that presumes too much."""
    attribute = rf"{SIZES}|{COLOURS}|made of (?:{MATERIALS})|a (?:{SHAPES})"
    forms = [
        (rf"(?:is there a|is there any|do you see a) ({_M})",
         lambda m: _yes(matching(m, scene))),
        (rf"is the (.+) ({attribute})",
         lambda r, w: _yes(getattr(the(r, scene), _KIND_OF[w.split()[-1]]) == w.split()[-1])),
        (rf"is the ({_M}) ({_REL}) the ({_M})", _relation_of(scene)),
        (rf"are the ({_M}) and the ({_M}) (?:made of )?the same (\w+)",
         lambda a, b, kind: _yes(getattr(the(a, scene), kind) == getattr(the(b, scene), kind))),
        (rf"are there more ({_M}) than ({_M})",
         lambda a, b: _yes(len(matching(a, scene)) > len(matching(b, scene)))),
        (r"how many (.+) (?:are there|do you see|are in the picture)",
         lambda words: str(_counted(words, scene))),
        (r"what (?:is the )?(\w+) (?:is|of) the (.+)",
         lambda kind, r: getattr(the(r, scene), kind)),
        (rf"where is the ({_M}), seen from the ({_M})", _where(scene)),
    ]  # fmt: skip
    for form, value in forms:
        match = re.fullmatch(form + r"\?", text)
        if match:
            return value(*match.groups())
    raise ValueError(text)


def _relation_of(scene):
    def value(first, words, second):
        a, b = the(first, scene), the(second, scene)
        assert plain(a, words, b) == on_side(a, words, b), "a relation in doubt"
        return _yes(plain(a, words, b))

    return value


def _where(scene):
    def value(first, second):
        a, b = the(first, scene), the(second, scene)
        (side,) = (w for w in ("left", "right", "above", "below") if plain(a, w, b))
        return side

    return value


def claims(tokens):
    """[(object index, attribute word or relation, other index or None)] of a choice."""
    text = " ".join(t.word or "&".join(f"@{i}" for i in t.objects) for t in tokens)
    text = text.removeprefix("because ").removesuffix(" .")
    found, subject = [], None
    for clause in re.split(r" and | , ", text):
        match = re.fullmatch(rf"(?:@(\d+) is )?(?:made of )?(?:(\w+)|({_REL}) @(\d+))", clause)
        assert match, text
        if match[1] is not None:
            subject = int(match[1])
        assert subject is not None, text
        found.append((subject, match[2] or match[3], int(match[4]) if match[4] else None))
    return found


def holds(claim, objects):
    """Whether a claim of `claims` holds; relations by the main direction."""
    i, word, j = claim
    if j is not None and word not in _KIND_OF:
        return plain(objects[i], word, objects[j])
    if j is None and word in _KIND_OF:
        return getattr(objects[i], _KIND_OF[word]) == word
    raise ValueError(claim)


def statement(text, left, right):
    """Whether a statement about two scenes is true."""

    def both(mention):
        return len(matching(mention, left)), len(matching(mention, right))

    def total(bound, number, mention):
        found = sum(both(mention))
        return {"exactly": found == number, "at least": found >= number,
                "at most": found <= number}[bound]  # fmt: skip

    def compared(side, how, mention):
        first, second = both(mention) if side == "left" else both(mention)[::-1]
        return {"more": first > second, "fewer": first < second, "as many": first == second}[how]

    image = "(?:image|picture)"
    forms = [
        (rf"(both|neither|exactly one|at least one|at most one) {image}s? shows? a ({_M})",
         lambda how, m: sum(map(bool, both(m))) in {
             "both": (2,), "neither": (0,), "exactly one": (1,), "at least one": (1, 2),
             "at most one": (0, 1)}[how]),
        (rf"there (?:is|are) (exactly|at least|at most) (\w+) ({_M}) in the two {image}s together",
         lambda bound, n, m: total(bound, _NUMBERS[n], m)),
        (rf"the (left|right) {image} has (more|fewer|as many) ({_M}) (?:than|as) the \w+ one",
         compared),
        (rf"the left {image} has a ({_M}) and the right one has a ({_M})",
         lambda a, b: bool(matching(a, left) and matching(b, right))),
    ]  # fmt: skip
    for form, value in forms:
        match = re.fullmatch(form, text)
        if match:
            return value(*match.groups())
    raise ValueError(text)
