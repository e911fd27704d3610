"""GuessWhat?!: which object was the dialogue about? (de Vries et al., 2017).

Files, from https://github.com/GuessWhatGame/guesswhat, in data.manual_dir, packed or not:

  guesswhat.train.jsonl.gz  guesswhat.valid.jsonl.gz  guesswhat.test.jsonl.gz   one game a line

Each game has `id`, `image` {id, width, height}, `objects` [{id, bbox (x, y, width, height), ...}],
`object_id` (the one that was meant), `qas` [{question, answer: Yes, No or N/A}] and `status`. The
images are COCO's, their decimal numbers are the ids in the region store. Image sets of the splits
are disjoint.

The text is the whole dialogue, "start <question> answer <answer> stop " a turn (12-in-1, task 17).
`games` chooses them by their status: "all" (12-in-1 filters none) or "success" (the guesser found
the object, as the paper trains it). A game that ended before the first question has no text and
is left out.

The candidates are the game's objects, sorted by id; `boxes` are the objects of all games of the
split on the image, which is the order of rows in a store of features of the annotated boxes.
"""

import functools
from collections import defaultdict
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.options.guesswhat import GAMES
from input_pipeline.datasets.reading import entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.boxes import need_box
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import need, need_text
from input_pipeline.datasets.records import Box, Pointing

SPLITS = ("train", "valid", "test")
OPTIONS = ("games",)
ANSWERS = ("Yes", "No", "N/A")


def files(folder: str, split: str, *, games: str = "all") -> list[str]:
    """The file of a split.

    Raises:
      DataError: it is missing, or `games` is unknown.
    """
    if games not in GAMES:
        raise entries.unknown("choice of games", GAMES, games, "data set guesswhat")
    fix = "download it as https://github.com/GuessWhatGame/guesswhat tells"
    return [official_files.locate(folder, f"guesswhat.{split}.jsonl", fix=fix)]


def records(folder: str, split: str, *, games: str = "all") -> Iterator[Pointing]:
    """The games of a split, in file order. Reads the file to its end before the first one.

    Raises:
      DataError: naming file and line: see `files.json_lines`; an unknown answer, an object that
        is not among the game's, an empty question, a game id that occurs twice.
    """
    [path] = files(folder, split, games=games)
    kept = []
    objects: dict[int, dict[int, Box]] = defaultdict(dict)
    ids = entries.Unique("game id")
    for line, game in official_files.json_lines(path):
        where = f"{path}:{line}"
        name = ids.add(entries.need_id(game, "id", where), where)
        image = need(need(game, "image", dict, where), "id", int, where)
        own = {need(o, "id", int, where): o for o in need(game, "objects", list, where)}
        objects[image].update((key, need_box(o, "bbox", where)) for key, o in own.items())
        meant = need(game, "object_id", int, where)
        if meant not in own:
            raise DataError(
                "the object that was meant is not among the game's objects",
                where=where,
                expected=f"one of {sorted(own)}",
                found=meant,
                fix="check that this is the official file",
            )
        ended, text = need(game, "status", str, where), _dialogue(game, where)
        if text and games in ("all", ended):
            kept.append((name, image, text, sorted(own), meant))
    orders = {image: sorted(boxes) for image, boxes in objects.items()}
    for name, image, text, own, meant in kept:
        yield Pointing(
            text_id=name,
            image_id=str(image),
            text=text,
            boxes=tuple(objects[image][key] for key in orders[image]),
            candidates=tuple(orders[image].index(key) for key in own),
            target=own.index(meant),
        )


def _dialogue(game: dict, where: str) -> str:
    turns = []
    for turn in need(game, "qas", list, where):
        question = need_text(need(turn, "question", str, where), where, "question")
        answer = need(turn, "answer", str, where)
        if answer not in ANSWERS:
            raise entries.unknown("answer", ANSWERS, answer, where)
        turns.append(f"start {question} answer {answer} stop")
    return " ".join(turns)


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"coco:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Pointing, configs={name: {"games": name} for name in GAMES})
