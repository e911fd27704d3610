"""The page a researcher opens first: predictions as cards, in one HTML file.

A page has a title, figures, and a grid of cards. A card shows pictures with their boxes, texts, and
whether the prediction is right. It may hold several pictures (a statement about two), so a card has
`pictures`, each with its own boxes in the pixels of its own original:

  card = Card(
      "question 139000",
      lines=[("question", "What is it?"), ("predicted", "a dog 62%"), ("true", "a cat")],
      pictures=[Picture((480, 640), data, [((10, 20, 200, 300), "a dog", "predicted")])],
      right=False,
  )
  write("report/index.html", "VQA", {"accuracy": "61.2%"}, [card])

The file refers to nothing outside it and runs no scripts: it forbids both to itself, whatever the
texts hold. The choice of right or wrong cards is made by the style sheet.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from core.progress import atomic_file
from evaluation.report import report_pictures
from evaluation.report.report_pictures import KINDS, Box, Picture, escape

__all__ = ["KINDS", "Box", "Card", "Picture", "write"]

_MARKS = {
    True: ("right", "✓ right"),
    False: ("wrong", "✗ wrong"),
    None: ("unknown", "truth unknown"),
}
_MISSING = "Name their folder with <code>--config.data.pictures=FOLDER</code>."


@dataclasses.dataclass(frozen=True)
class Card:
    """One example.

    Attributes:
      title: names the example, such as its text_id.
      lines: (name, text), in order.
      pictures: none, one or several.
      right: whether the prediction is right; None where the truth is unknown.
    """

    title: str
    lines: Sequence[tuple[str, str]] = ()
    pictures: Sequence[Picture] = ()
    right: bool | None = None


def write(path, title: str, figures: Mapping[str, object], cards: Iterable[Card]) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: of the file; its folder is made.
      title: of the run.
      figures: name → value, shown at the top; floats with four significant digits.
      cards: in order; may be made one by one.

    Raises:
      ValueError: what `report_pictures.draw` says of a picture.
    """
    problems, kinds, counts, made = [], set(), dict.fromkeys(_MARKS, 0), []
    for card in cards:
        counts[card.right] += 1
        kinds.update(kind for picture in card.pictures for _, _, kind in picture.boxes)
        drawn = [report_pictures.draw(picture) for picture in card.pictures]
        problems += [problem for _, problem in drawn]
        made.append(_card(card, drawn))
    page = [
        _head(title),
        f"<body>\n<header>\n<h1>{escape(title)}</h1>\n",
        _figures(figures),
        _notes(problems),
        report_pictures.legend(sorted(kinds)),
        "</header>\n",
        _choice(counts),
        "<main>\n",
        *(made or ["<p>No examples.</p>\n"]),
        "</main>\n</body>\n</html>\n",
    ]
    with (
        atomic_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(page)


def _head(title: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
    )


def _figures(figures: Mapping[str, object]) -> str:
    items = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(_value(value))}</dd></div>\n"
        for name, value in figures.items()
    )
    return f'<dl class="figures">\n{"".join(items)}</dl>\n' if figures else ""


def _value(value: object) -> str:
    if isinstance(value, str | bool):
        return str(value)
    if value is None:
        return "–"
    try:
        number = float(value)  # numpy's and JAX's numbers, too
    except (TypeError, ValueError):
        return str(value)
    whole = number.is_integer() and not isinstance(value, float)
    return f"{int(number):,}" if whole else f"{number:.4g}"


def _notes(problems: Sequence[str]) -> str:
    """How many pictures are not what they should be: "" for one that is."""
    total, absent = len(problems), problems.count("no picture")
    unreadable = problems.count("the picture cannot be read")
    other = total - problems.count("") - absent - unreadable
    notes = []
    if absent:
        notes.append(f"{absent:,} of {total:,} pictures are missing: frames stand for them. "
                     f"{_MISSING}")  # fmt: skip
    if unreadable:
        notes.append(f"{unreadable:,} of {total:,} pictures cannot be read.")
    if other:
        notes.append(f"{other:,} of {total:,} pictures do not have the shape of their boxes' size.")
    return "".join(f'<p class="note">{note}</p>\n' for note in notes)


def _choice(counts: Mapping[bool | None, int]) -> str:
    """Radio buttons before the cards: the style sheet hides the cards that are not chosen."""
    if not counts[True] + counts[False]:
        return ""
    buttons = [("all", "all", sum(counts.values()))]
    shown = [right for right in _MARKS if right is not None or counts[right]]
    buttons += [(*_MARKS[right], counts[right]) for right in shown]
    inputs = (
        f'<input type="radio" name="show" id="show-{name}"{" checked" * (name == "all")}>'
        f'<label for="show-{name}">{text} ({count:,})</label>\n'
        for name, text, count in buttons
    )
    return "".join(inputs)


def _card(card: Card, drawn: Sequence[tuple[str, str]]) -> str:
    name, mark = _MARKS[card.right]
    badge = "" if card.right is None else f'<p class="mark">{mark}</p>\n'
    figures = []
    for picture, (svg, problem) in zip(card.pictures, drawn, strict=True):
        words = [f"<span>{escape(picture.name)}</span>"] if picture.name else []
        words += [f'<em class="problem">{escape(problem)}</em>'] if problem else []
        caption = f"<figcaption>{' '.join(words)}</figcaption>" if words else ""
        figures.append(f"<figure>{svg}{caption}</figure>\n")
    lines = (f"<dt>{escape(key)}</dt><dd dir=\"auto\">{escape(text)}</dd>\n"
             for key, text in card.lines)  # fmt: skip
    texts = f"<dl>\n{''.join(lines)}</dl>\n" if card.lines else ""
    return (
        f'<article class="card {name}">\n<h2>{escape(card.title)}</h2>\n{badge}'
        f'<div class="pictures">\n{"".join(figures)}</div>\n{texts}</article>\n'
    )


_STYLE = """
:root { --page: #f4f4f2; --card: #fff; --ink: #1a1a1a; --faint: #5c5c5c; --line: #d0d0cc;
  --right: #0072b2; --wrong: #b34700; --frame: #dededa; }
@media (prefers-color-scheme: dark) {
  :root { --page: #161616; --card: #242424; --ink: #eee; --faint: #aaa; --line: #444;
    --right: #56b4e9; --wrong: #f0904a; --frame: #3a3a3a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 110rem; color: var(--ink);
  background: var(--page); font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; }
.figures { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 0 1rem; }
.figures div { padding: .4rem .8rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--card); }
.figures dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
dt { color: var(--faint); font-size: .8rem; }
.note { margin: 0 0 1rem; padding: .5rem .8rem; border-left: .3rem solid var(--wrong);
  background: var(--card); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0 0 1rem; padding: 0;
  list-style: none; font-size: .9rem; }
.key { width: 2.2rem; vertical-align: middle; }
input { position: absolute; opacity: 0; }
input + label { display: inline-block; margin: 0 .3rem .8rem 0; padding: .35rem .9rem;
  border: 1px solid var(--line); border-radius: 2rem; background: var(--card); cursor: pointer; }
input:checked + label { color: var(--card); background: var(--ink); }
input:focus-visible + label { outline: .2rem solid var(--right); outline-offset: .1rem; }
#show-right:checked ~ main .card:not(.right), #show-wrong:checked ~ main .card:not(.wrong),
#show-unknown:checked ~ main .card:not(.unknown) { display: none; }
main { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.card { padding: .8rem; border: 1px solid var(--line); border-top-width: .3rem;
  border-radius: .4rem; background: var(--card); }
.card.right { border-top: .3rem solid var(--right); }
.card.wrong { border-top: .3rem dashed var(--wrong); }
h2 { margin: 0; color: var(--faint); font-size: .85rem; font-weight: normal; }
.mark { margin: 0; font-weight: bold; }
.right .mark { color: var(--right); }
.wrong .mark { color: var(--wrong); }
figure { margin: .5rem 0 0; }
figure svg { display: block; width: 100%; max-height: 26rem; font-family: Arial, sans-serif; }
.frame { fill: var(--frame); }
figcaption { color: var(--faint); font-size: .8rem; }
.problem { color: var(--wrong); }
code { display: inline-block; }
.card dl { margin: .5rem 0 0; }
.card dd { margin: 0 0 .35rem; white-space: pre-line; }
@media print { input + label { display: none; } .card { break-inside: avoid; } }
"""
