"""Ask a trained model, from the command line.

  python -m inference RUN                      # what the model is, and what it can be asked
  python -m inference RUN answer "what colour is the cube?" --image=ID
  python -m inference RUN fill_mask "a [MASK] cube" --image=ID --regions=STORE --json
  python -m inference RUN answer --jsonl=FILE  # {"question": ..., "image": ...}
  python -m inference RUN look "a red cube" --image=ID --out=page.html   # see look --help
  python -m inference RUN export --out=FOLDER                            # see export --help

RUN is a run, a folder that was shared, a published file or a name on the hub. Images are named by
their ids in the run's own data set, or in --regions. A line of FILE has the arguments of the verb:
text, question or expression; image or images (an id, or an object with boxes, features and size);
choices, objects, answer and key; candidates; boxes. Results alone go to stdout.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import ast
import contextlib
import importlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from core import arguments, remote, strict_json
from core.console import command, say, warn
from core.errors import DataError, UserError
from core.progress import atomic_file
from inference import abilities, result
from inference.asking import LONG_TEXTS
from inference.loading import load
from inference.tasks import TaskModel
from objectives.model import DTYPES

OWN_FLAGS = ("look", "export")  # have flags of their own
VERBS = (*abilities.VERBS, *abilities.OF_ALL)
_SETTINGS = ("self", "top_k", "task", "hidden")  # of a verb, and not of what is asked
_TEXTS = ("text", "question", "expression", "texts")


def parameters(verb: str) -> dict[str, inspect.Parameter]:
    """What a verb is told of each thing that is asked."""
    found = inspect.signature(getattr(TaskModel, verb)).parameters
    return {name: one for name, one in found.items() if name not in _SETTINGS}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("place", metavar="RUN", help="run, shared folder, published file, hub name")
    made.add_argument("verb", nargs="?", choices=VERBS, help="what to do; none: tell what it can")
    made.add_argument("text", nargs="*", help="text or question; rank takes several")
    several = dict(action="append", default=[])
    made.add_argument("--image", **several, help="id in the region store; again for several")
    made.add_argument("--regions", help="region store(s), commas between; else the run's own")
    made.add_argument("--pictures", default="", help="folder of pictures by id, for --html")
    made.add_argument("--extractor", help="name that finds regions: images are then pictures")
    made.add_argument("--extractor_options", default="", help="JSON object of its arguments")
    made.add_argument("--jsonl", help="file of what is asked, an object per line")
    made.add_argument("--choice", **several, help="of choose: once for each")
    made.add_argument("--answer", help="of choose, where rationales are to be chosen")
    made.add_argument("--object", **several, help="of choose: NAME,x1,y1,x2,y2, for [0], [1] ...")
    made.add_argument("--box", **several, help="of point and ground: x1,y1,x2,y2, once for each")
    made.add_argument("--task", default="", help="stream of the run, where several could answer")
    made.add_argument("--top", type=arguments.whole(1), default=5, help="words or answers told")
    made.add_argument("--hidden", action="store_true", help="of attention: the states, too")
    made.add_argument("--json", action="store_true", help="results as JSON, one per line")
    made.add_argument("--html", help="new HTML file of the results, with the regions drawn")
    file = made.add_argument_group("published files, which do not say how they were trained")
    file.add_argument("--vocab", default="", help="vocab.txt")
    file.add_argument("--config", default="", help="of its task: configs/FILE.py:ARGUMENTS")
    file.add_argument("--set", **several, metavar="FIELD=VALUE", help="a field of that config")
    file.add_argument("--answers", default="", help="file of its answer list")
    file.add_argument("--label", **several, help="name of a class, once for each, in order")
    file.add_argument("--feature_spec", default="", help="spec.json; else that of --regions")
    file.add_argument("--task_id", type=arguments.whole(0), help="of a model with task tokens")
    made.add_argument("--device", help="cpu, gpu, tpu, or gpu:1; else the first")
    made.add_argument("--dtype", default="", choices=["", *DTYPES], help="else as it was trained")
    made.add_argument("--long_texts", default="error", choices=LONG_TEXTS)
    return made


@command
def main(argv: Sequence[str]) -> int:
    """Command line."""
    if argv[1:2] and argv[1] in OWN_FLAGS:
        room = importlib.import_module(f"inference.{argv[1]}.__main__")
        return room.main([argv[0], *argv[2:]])
    given = parser().parse_args(argv)
    asked = _asked(given) if given.verb else []
    with contextlib.redirect_stdout(sys.stderr):  # what is told of a data set that is opened
        model = load(
            given.place,
            regions=given.regions,
            pictures=given.pictures,
            extractor=given.extractor,
            extractor_options=given.extractor_options,
            vocab=given.vocab,
            config=given.config,
            fields=dict(_field(one) for one in given.set),
            answers=given.answers,
            labels=given.label,
            feature_spec=given.feature_spec,
            task_id=given.task_id,
            device=given.device,
            dtype=given.dtype,
            long_texts=given.long_texts,
        )
        found = ask(model, given.verb, asked, _settings(given)) if given.verb else []
    if not given.verb:
        say("\n".join(model.about()))
    elif given.json:
        say("\n".join(json.dumps(one.to_dict(), ensure_ascii=False) for one in found))
    else:
        say("\n".join(result.table(found)))
    if given.html and given.verb:
        with atomic_file(given.html) as temporary:
            temporary.write_text(result.page(found), encoding="utf-8")
        warn(f"wrote {given.html}")
    return 0


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    """Settings of the verb, by the flags."""
    known = inspect.signature(getattr(TaskModel, given.verb)).parameters
    flags = dict(task=given.task, top_k=given.top, hidden=given.hidden)
    return {name: value for name, value in flags.items() if name in known}


def ask(
    model: TaskModel, verb: str, asked: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[result.Result]:
    """One result for each of the things that are asked.

    Args:
      model: who is asked.
      verb: one of VERBS.
      asked: arguments of each, as `parameters` names them.
      settings: of the verb.
    """
    call = getattr(model, verb)
    if verb == "rank":  # which takes several texts and images at once
        return [call(**one, **settings) for one in asked]
    columns = {
        name: [one.get(name, parameter.default) for one in asked]
        for name, parameter in parameters(verb).items()
    }
    if len(asked) == 1:
        return [call(**{name: values[0] for name, values in columns.items()}, **settings)]
    return call(**columns, **settings)


def _asked(given: argparse.Namespace) -> list[dict[str, Any]]:
    """What is asked, by the flags or by the lines of a file.

    Raises:
      UserError: neither or both, or a line that is wrong.
    """
    names, beside = parameters(given.verb), _beside(given)
    if given.jsonl:
        if given.text or given.image or beside:
            raise UserError(
                "what is asked is named twice",
                expected="--jsonl=FILE, whose lines have all of it, or a text and --image",
                found="both",
            )
        return _lines(given.jsonl, names)
    text = next(name for name in _TEXTS if name in names)
    image = "images" if "images" in names else "image"
    several = text == "texts"
    if not given.text or (len(given.text) > 1 and not several):
        raise UserError(
            f"{given.verb} takes {'texts' if several else 'one text'}",
            found=given.text or "none",
            fix=f'python -m inference {given.place} {given.verb} "..." --image=ID',
        )
    images = given.image if several or len(given.image) > 1 else (given.image or [None])[0]
    found: dict[str, Any] = {text: given.text if several else given.text[0], image: images}
    for flag, (value, known) in beside.items():
        taken = {name: value for name in known if name in names}
        if not taken:
            raise UserError(f"{given.verb} does not take {flag}")
        found |= taken
    return [found]


def _beside(given: argparse.Namespace) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """{flag: (what it says, names that verbs have for it)}, of those that are given."""
    boxes = [_numbers(box, "--box") for box in given.box]
    found: dict[str, tuple[Any, tuple[str, ...]]] = {
        "--choice": (given.choice, ("choices",)),
        "--answer": (given.answer, ("answer",)),
        "--object": ([_object(one) for one in given.object], ("objects",)),
        "--box": (boxes, ("boxes", "candidates")),
    }
    return {flag: pair for flag, pair in found.items() if pair[0]}


def _numbers(value: str, flag: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, value.split(",")))
        if len(found) != 4:
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"{flag} is no box", expected="x1,y1,x2,y2 in pixels of the image", found=repr(value)
        ) from error
    return found


def _field(value: str) -> tuple[str, Any]:
    """A field of a config and its value: a number, a truth value, a tuple, else a text."""
    name, _, text = value.partition("=")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, text


def _object(value: str) -> tuple[str, tuple[float, ...]]:
    name, _, box = value.partition(",")
    return name, _numbers(box, "--object")


def _lines(path: str, names: Mapping[str, inspect.Parameter]) -> list[dict[str, Any]]:
    """The objects of a file, an object per line.

    Raises:
      DataError: it cannot be read, or a line is no object with the arguments of the verb.
    """
    try:
        lines = remote.path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError("a file cannot be read", where=path, found=str(error)) from error
    needed = {name for name, one in names.items() if one.default is inspect.Parameter.empty}
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = strict_json.parse(line.encode())
            keys = set(value) if isinstance(value, dict) else None
        except ValueError as error:
            value, keys = str(error), None
        if keys is None or not needed <= keys <= set(names):
            raise DataError(
                "a line does not say what is asked",
                where=f"{path}:{number}",
                expected=f"an object with {sorted(needed)}, and of {sorted(set(names) - needed)}",
                found=value if keys is None else f"an object with {sorted(keys)}",
            )
        found.append({name: _plain(name, inner) for name, inner in value.items()})
    if not found:
        raise DataError("nothing is asked", where=path, expected="a line", found="none")
    return found


def _plain(name: str, value: Any) -> Any:
    """A value of JSON as a verb takes it: texts of words and mentions are tuples."""
    if name in ("question", "answer") and isinstance(value, list):
        return tuple(value)
    if name == "choices" and isinstance(value, list):
        return [tuple(one) if isinstance(one, list) else one for one in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
