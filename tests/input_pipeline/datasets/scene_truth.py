"""Is a caption true of a scene? Written apart from the captions' own code, to check it."""

import itertools
import re

SIZES = "small|large"
COLOURS = "red|green|blue|yellow|purple|gray"
MATERIALS = "rubber|metal"
SHAPES = "ball|cube|cone|ring|star"
_MENTION = re.compile(
    rf"\b(?:a|the|one)(?: (?P<size>{SIZES}))?(?: (?P<colour>{COLOURS}))?"
    rf"(?: (?P<material>{MATERIALS}))? (?:(?P<shape>{SHAPES})|object|thing)\b"
)
_RELATION = r"(?:(?:to the |on the )?(?:left|right) of|above|higher than|below|lower than)"
_SIDES = "left|right|top|bottom"
_EXTREME = rf"(?:at the very (?:{_SIDES}))"
_OPENING = (
    r"(?:(?:there is|here is|we see|you can see|this (?:picture|image|scene) shows"
    r"|the (?:picture|image|scene) has) )?"
)
_LINK = r"(?:is|there is|we see)"
# Skeletons with mentions replaced by <0>, <1>, ...: what they claim of the mentioned objects.
_FORMS = [
    (rf"{_OPENING}<0>", "exist"),
    (r"<0> (?:in the|is in this) (?:picture|image|scene)", "exist"),
    (r"one of the (?:objects|things) is <0>", "exist"),
    (rf"{_OPENING}<0> (?:and|with) <1>(?: (?:and|with) <2>)?", "exist"),
    (rf"<0> is (?:made of )?({SIZES}|{COLOURS}|{MATERIALS})", "is"),
    (r"<0> is <1>", "same"),
    (rf"<0> is on the ({_SIDES}) side", "side"),
    (rf"{_OPENING}<0> (?:is )?({_RELATION}) <1>", "0 to 1"),
    (rf"<0> (?:is )?({_RELATION}) <1> and ({_RELATION}) <2>", "0 to 1, 0 to 2"),
    (rf"({_RELATION}) <0> {_LINK} <1>", "1 to 0"),
    (rf"<0> is ({_EXTREME})", "extreme"),
    (rf"({_EXTREME}) {_LINK} <0>", "extreme"),
    (rf"<0> ({_EXTREME}) is ({COLOURS})", "extreme is"),
    (rf"<0> ({_EXTREME}) is <1>", "extreme same"),
]


def _related(words, a, b, doubt):
    dx, dy = b.x - a.x, b.y - a.y
    if "left" in words:
        return dx > max(15, abs(dy) - 1 - doubt)
    if "right" in words:
        return -dx > max(15, abs(dy) - 1 - doubt)
    if words in ("above", "higher than"):
        return dy > max(15, abs(dx) - 1 - doubt)
    assert words in ("below", "lower than"), words
    return -dy > max(15, abs(dx) - 1 - doubt)


def _furthest(words, a, scene, doubt):
    others = [o for o in scene.objects if o is not a]
    ahead = {
        "at the very left": lambda o: o.x - a.x,
        "at the very right": lambda o: a.x - o.x,
        "at the very top": lambda o: o.y - a.y,
        "at the very bottom": lambda o: a.y - o.y,
    }[words]
    return all(ahead(o) > (-doubt if doubt else 3) for o in others)


def _on_side(word, a, scene, doubt):
    right, below = a.x - scene.width / 2, a.y - scene.height / 2
    along = {"left": -right, "right": right, "top": -below, "bottom": below}[word]
    across = abs(below) if word in ("left", "right") else abs(right)
    return along > max(0, across - doubt)


def _attributes(o):
    return (o.shape, o.colour, o.size, o.material)


def is_true(text, scene, doubt=0):
    """Whether some choice of objects makes the caption true; raises on text it cannot read.

    With `doubt`, what so many pixels could make true counts as true.
    """
    mentions = [{k: v for k, v in m.groupdict().items() if v} for m in _MENTION.finditer(text)]
    numbers = itertools.count()
    skeleton = _MENTION.sub(lambda _: f"<{next(numbers)}>", text)
    fitting = ((re.fullmatch(pattern, skeleton), claim) for pattern, claim in _FORMS)
    match, claim = next(((m, c) for m, c in fitting if m), (None, None))
    if match is None:
        raise ValueError(f"no form fits {text!r} ({skeleton!r})")
    if claim in ("same", "extreme same"):
        (_, wanted), mentions = mentions, mentions[:1]
    for chosen in itertools.permutations(scene.objects, len(mentions)):
        if not all(
            getattr(o, kind) == value
            for o, mention in zip(chosen, mentions, strict=True)
            for kind, value in mention.items()
        ):
            continue
        groups = match.groups()
        holds = {
            "exist": lambda c, g: True,
            "is": lambda c, g: g[0] in _attributes(c[0]),
            "0 to 1": lambda c, g: _related(g[0], c[0], c[1], doubt),
            "1 to 0": lambda c, g: _related(g[0], c[1], c[0], doubt),
            "0 to 1, 0 to 2": lambda c, g: (
                _related(g[0], c[0], c[1], doubt) and _related(g[1], c[0], c[2], doubt)
            ),
            "side": lambda c, g: _on_side(g[0], c[0], scene, doubt),
            "extreme": lambda c, g: _furthest(g[0], c[0], scene, doubt),
            "extreme is": lambda c, g: (
                _furthest(g[0], c[0], scene, doubt) and g[1] in _attributes(c[0])
            ),
            "same": lambda c, g: set(wanted.values()) <= set(_attributes(c[0])),
            "extreme same": lambda c, g: (
                _furthest(g[0], c[0], scene, doubt)
                and set(wanted.values()) <= set(_attributes(c[0]))
            ),
        }[claim]
        if holds(chosen, groups):
            return True
    return False
