"""What a checkpoint can be asked: verbs, each with the streams of the run that can answer it."""

from collections.abc import Mapping, Sequence

from core.errors import ConfigError
from inference.checkpoint import Checkpoint
from objectives import base
from objectives.model import MultiTaskModel

Ability = base.Ability
# What an objective must be able to do for each verb.
VERBS: Mapping[str, Ability] = {
    "fill_mask": Ability.FILL_WORDS,
    "answer": Ability.ANSWER,
    "choose": Ability.CHOOSE,
    "ground": Ability.LOCATE,
    "point": Ability.LOCATE,
    "classify": Ability.CLASSIFY,
    "align": Ability.JUDGE_PAIRS,
    "rank": Ability.SCORE_PAIRS,
}
OF_ALL = ("embed", "attention")  # any model with images

Task = tuple[str, base.Objective]  # a stream, and the objective of it that is asked


def tasks_of(model: MultiTaskModel) -> dict[str, list[Task]]:
    """{verb: who can answer it}, of the streams with images; verbs that nobody can are absent."""
    found: dict[str, list[Task]] = {}
    for stream, objectives in model.streams.items():
        if not model.block(stream).images:
            continue
        for verb, ability in VERBS.items():
            # Predictions are those of a stream's first objective, by which its texts are laid out.
            asked = objectives[:1] if objectives[0].predicts else objectives
            able = [one for one in asked if ability in one.abilities]
            if able:
                found.setdefault(verb, []).append((stream, able[0]))
        for verb in OF_ALL:
            found.setdefault(verb, []).append((stream, objectives[0]))
    return found


def choose(tasks: Mapping[str, Sequence[Task]], verb: str, stream: str, place: str) -> Task:
    """Who answers a verb.

    Args:
      tasks: of `tasks_of`.
      verb: what is asked.
      stream: whose objective is to answer; empty: the only one, or the first of several that share
        their parameters.
      place: of the checkpoint, for messages.

    Raises:
      ConfigError: none can, or several could; lists what there is.
    """
    able = tasks.get(verb, ())
    if not able:
        what = VERBS[verb].value if verb in VERBS else "reads images"
        raise ConfigError(
            f"this model cannot {verb}",
            where=place,
            expected=f"an objective that {what}",
            found=f"it can: {', '.join(tasks) or 'nothing with images'}",
        )
    if stream:
        named = [task for task in able if task[0] == stream]
        if not named:
            raise ConfigError(
                f"this model has no such task to {verb}",
                where=place,
                expected=f"one of {[name for name, _ in able]}",
                found=repr(stream),
            )
        return named[0]
    if verb in VERBS and len({objective.head_name for _, objective in able}) > 1:
        names = [name for name, _ in able]
        raise ConfigError(
            f"several tasks of this model could {verb}",
            where=place,
            expected=f"one of {names}",
            found="none named",
            fix=f"name one: task={names[0]!r} (on the command line --task={names[0]})",
        )
    return able[0]


def about(
    found: Checkpoint, tasks: Mapping[str, Sequence[Task]], answers: Sequence[str]
) -> list[str]:
    """What a checkpoint reads and can be asked, in lines for people.

    Args:
      found: the checkpoint.
      tasks: of `tasks_of`.
      answers: its answer list.
    """
    spec, streams = found.spec, found.config.streams
    lines = [
        f"vocabulary: {found.tokenizer.vocab_size:,} word pieces",
        f"region features: {spec.feature_dim} numbers of {spec.detector!r}, "
        f"{spec.num_classes} classes",
    ]
    if answers:
        lines.append(f"answers: {len(answers):,}, such as {list(answers[:5])}")
    lines.append("it can:" if tasks else "it can be asked nothing about images")
    width = max(map(len, tasks), default=0)
    for verb, able in tasks.items():
        names = ", ".join(f"{name} (texts of {streams[name].max_text} pieces)" for name, _ in able)
        lines.append(f"  {verb:{width}}  {names}")
    for verb in list(tasks)[:1]:
        lines.append(f'ask it: python -m inference {found.place} {verb} "..." --image=ID')
    return lines
