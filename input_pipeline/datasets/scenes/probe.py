"""Can the probe words be told from the text alone? A logistic regression says they cannot.

  python -m input_pipeline.datasets.scenes.probe --images=4000 --validation=4000 --seed=0

For each kind of slot (colour, shape, ...) it learns the hidden word from the rest of the caption
(words and word pairs, the slot itself as a word) and compares with the prior, the share of the
most frequent word in training. A caption form that couples attributes would show here. Mind the
error: with few validation images the difference is chance, above all for sizes and materials.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from core import arguments
from core.console import command, say
from input_pipeline.datasets.scenes import captions as captions_lib
from input_pipeline.datasets.scenes import graph

HIDDEN = "[hidden]"


def slots(captions: Iterable[captions_lib.Caption]) -> dict[str, tuple[list[str], list[str]]]:
    """Hides one probe word at a time: {kind: (texts with the word hidden, the words)}.

    Takes anything with `text` and `probe`, so rows of a text table too.
    """
    kinds, found = list(captions_lib.KINDS), {}
    for caption in captions:
        for start, end, kind in caption.probe:
            word = caption.text[start:end]
            texts, words = found.setdefault(kinds[kind], ([], []))
            texts.append(caption.text[:start] + HIDDEN + caption.text[end:])
            words.append(word)
    return found


def measure(train, validation) -> dict[str, dict[str, float]]:
    """Prior of the words and text-only accuracy on validation, per kind of slot and for "all".

    Args:
      train: captions (or rows) to learn from.
      validation: captions (or rows) of other scenes.

    Returns:
      {kind: {"slots", "prior", "text_only", "gain", "error"}}: shares of 1.
      `gain` is text_only - prior; `error` is the standard error of text_only if slots were
      independent (those of a scene are not quite).
    """
    seen, unseen = slots(train), slots(validation)
    table = {kind: row(seen[kind], unseen[kind]) for kind in sorted(seen.keys() & unseen.keys())}
    table["all"] = total(table.values())
    for found in table.values():
        add_error(found)
    return table


def fit(texts: list[str], words: list):
    """A logistic regression of words and word pairs: (features of texts, model)."""
    from sklearn.feature_extraction.text import CountVectorizer  # only this measurement needs it
    from sklearn.linear_model import LogisticRegression

    bag = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), binary=True)
    model = LogisticRegression(C=0.1, max_iter=200, tol=1e-3)
    model.fit(bag.fit_transform(texts), words)
    return bag.transform, model


def row(seen: tuple[list[str], list], unseen: tuple[list[str], list]) -> dict[str, float]:
    """Learns from (texts, labels) and guesses others: {"slots", "prior", "text_only"}."""
    texts, words = seen
    prior = text_only = max(map(words.count, set(words))) / len(words)
    if len(set(words)) > 1:
        features, model = fit(texts, words)
        text_only = float(model.score(features(unseen[0]), unseen[1]))
    return {"slots": len(unseen[1]), "prior": prior, "text_only": text_only}


def total(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of rows, each slot counting alike."""
    rows = list(rows)
    slots = sum(row["slots"] for row in rows)
    return {"slots": slots} | {
        name: sum(row[name] * row["slots"] for row in rows) / slots
        for name in ("prior", "text_only")
    }


def add_error(row: dict[str, float]) -> None:
    """Adds "gain" and "error", see `measure`."""
    row["gain"] = row["text_only"] - row["prior"]
    row["error"] = (row["text_only"] * (1 - row["text_only"]) / row["slots"]) ** 0.5


def format_table(table: dict[str, dict[str, float]]) -> str:
    """The result of `measure` as lines of text, accuracies in percent."""
    wide = max(10, *(len(kind) + 2 for kind in table))
    lines = [f"{'slot':<{wide}}{'slots':>8}{'prior':>8}{'text only':>11}{'gain':>7}{'error':>8}"]
    for kind, row in table.items():
        lines.append(
            f"{kind:<{wide}}{row['slots']:>8}{100 * row['prior']:>8.1f}"
            f"{100 * row['text_only']:>11.1f}{100 * row['gain']:>+7.1f}"
            f"{100 * row['error']:>8.1f}"
        )
    return "\n".join(lines)


def sample(
    seed: int, split: str, images: int, min_objects: int = 2, max_objects: int = 4
) -> list[captions_lib.Caption]:
    """The captions of the first images of a split, drawn without pictures or files."""
    scenes = (graph.draw(seed, split, i, min_objects, max_objects) for i in range(images))
    return [c for scene in scenes for c in captions_lib.captions(scene, seed)]


@command
def main(argv: Sequence[str]) -> None:
    """Draws captions, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=arguments.whole(1), default=4000)
    parser.add_argument("--validation", type=arguments.whole(1), default=4000)
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    parser.add_argument("--min-objects", type=arguments.whole(2), default=2)
    parser.add_argument("--max-objects", type=arguments.whole(2), default=4)
    args = parser.parse_args(argv)
    limits = (args.min_objects, args.max_objects)
    train = sample(args.seed, "train", args.images, *limits)
    validation = sample(args.seed, "validation", args.validation, *limits)
    say(format_table(measure(train, validation)))


if __name__ == "__main__":
    sys.exit(main())
