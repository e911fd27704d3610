"""Maps the parameters of a source to a model; the report covers every one of them."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from checkpoints import depth
from checkpoints.sources import Source, SourceError
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from runtime import paths
from vl_models.heads import HeadSpec

_WORDS = "trunk/embeddings/word/embedding"
_SEGMENTS = "trunk/embeddings/segment/embedding"
_POSITIONS = "trunk/embeddings/position/embedding"
_ROBERTA_FIRST_POSITION = 2  # RoBERTa counts positions from its padding id on
_TEXT_ONLY = ("bert", "roberta")


@dataclasses.dataclass(frozen=True)
class _Listed:
    """An axis of an array whose entries have names.

    Attributes:
      axis: of the array.
      what: its entries are, for the report.
      mine: their names in the model, None where unknown.
      theirs: the same in the source.
    """

    axis: int
    what: str
    mine: Sequence[str] | None
    theirs: Sequence[str] | None

    @property
    def differs(self) -> bool:
        """Whether both lists are known and are not the same."""
        return bool(self.mine and self.theirs) and list(self.mine or ()) != list(self.theirs or ())

    @property
    def taken_as_same(self) -> bool:
        """Whether the model's list is known and the source's is not."""
        return bool(self.mine) and not self.theirs


# Parameters that a text model has and a model here does not take from it: {model: (path, why)}.
_NOT_TAKEN = {
    "vilbert": ((r"trunk/pooler/.*", "ViLBERT's poolers are others and start anew"),),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """What became of one parameter.

    Attributes:
      fate: "mapped", "dropped" or "initial".
      path: ours; empty where dropped.
      name: the source's, of the parameter or of what it was computed from; empty where initial.
      shape: of the array.
      note: why, or what was changed.
    """

    fate: str
    path: str
    name: str
    shape: tuple[int, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Arrays for a model.

    Attributes:
      arrays: {path: array of the model's shape and type}.
      known: {path: bool mask that broadcasts to the array}, where only some entries came in; the
        others keep their initial value.
      report: one line per parameter of the source and of the model.
      layers: of a deeper source, which layers were taken, a line for each kind of layer.
    """

    arrays: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    report: list[Line]
    layers: list[str] = dataclasses.field(default_factory=list)


def fit(
    source: Source,
    shapes: Any,
    *,
    model: str,
    pieces: Sequence[str] | None = None,
    heads: Mapping[str, HeadSpec] | None = None,
    warm_start: Mapping[str, str] | None = None,
    layers: str = depth.ALL,
) -> Fitted:
    """Fits a source into the parameters of a model.

    Word tables are mapped by word piece, heads by the names of their outputs, where these differ.

    Args:
      source: see `sources.open_source`.
      shapes: nested dict of arrays or shapes, the model's.
      model: name of the trunk's module.
      pieces: the model's vocabulary by id.
      heads: {head: how the model's is built, and what its outputs are called}.
      warm_start: {path prefix of ours: path prefix of the source}, parameters that start as a
        copy of others where the source has none of their own.
      layers: of a deeper source, "all", which is then an error, or the "first" ones, as many as the
        model has.

    Raises:
      SourceError: shapes that differ, layers that one side lacks, or nothing in common; lists
        everything, with the sizes that would fit.
    """
    target, problems, report = paths.flatten(shapes), [], []
    taken_layers: list[str] = []
    if layers == depth.FIRST:
        source, taken_layers = depth.first_layers(source, target)
    given = {path: (source.names[path], array) for path, array in source.arrays.items()}
    taken_by_warm_start, copies = {}, {}
    for ours, theirs in (warm_start or {}).items():
        for path in target:
            if path.startswith(f"{ours}/") and path not in given:
                copied = theirs + path.removeprefix(ours)
                if copied in given and _same(given[copied][1], target[path]):
                    taken_by_warm_start[path] = given[copied]
                    copies[copied] = path
    arrays, known = {}, {}
    listed = _listed_arrays(source, pieces, heads or {})
    for path, (name, array) in given.items():
        note = _not_taken(source.kind, model, path)
        if path in copies and path not in target:
            continue  # has its line as a warm start
        if note or path not in target:
            note = note or "the model has no such parameter"
            report.append(Line("dropped", "", name, array.shape, note))
            continue
        array, mask, note, problem = _adapt(source, path, array, target[path], listed.get(path))
        if problem:
            problems.append(problem)
            continue
        arrays[path] = array.astype(target[path].dtype)
        if mask is not None:
            known[path] = mask
        if source.arrays[path].dtype != target[path].dtype:
            note = f"{note + '; ' if note else ''}was {source.arrays[path].dtype}"
        report.append(Line("mapped", path, name, array.shape, note))
    for path, (name, array) in taken_by_warm_start.items():
        arrays[path] = array.astype(target[path].dtype)
        report.append(Line("mapped", path, name, array.shape, f"warm start from {_stem(name)}"))
    report += [
        Line("dropped", "", name, (), reason) for name, reason in sorted(source.dropped.items())
    ]
    missing = [path for path in target if path not in arrays]
    report += [
        Line("initial", path, "", tuple(target[path].shape), f"not in the {source.kind}")
        for path in missing
    ]
    problems += depth.differences(depth.of(given), depth.of(target))
    problems += _half_groups(arrays, missing)
    if not problems and not any(path.startswith("trunk/") for path in arrays):
        problems.append("no parameter of the trunk is in the source")
    if problems:
        raise SourceError(
            f"{source.place} ({source.kind}) does not fit the model:\n  "
            + "\n  ".join(problems)
            + _suggestion(source, target)
        )
    return Fitted(arrays, known, report, taken_layers)


def _stem(name: str) -> str:
    """A name without its last part."""
    return re.sub(r"[/.][^/.]*$", "", name)


def _same(array: Any, shape: Any) -> bool:
    return tuple(array.shape) == tuple(shape.shape)


def _not_taken(kind: str, model: str, path: str) -> str:
    if kind in _TEXT_ONLY:
        for pattern, reason in _NOT_TAKEN.get(model, ()):
            if re.fullmatch(pattern, path):
                return reason
    return ""


def _listed_arrays(
    source: Source, pieces: Sequence[str] | None, heads: Mapping[str, HeadSpec]
) -> dict[str, _Listed]:
    """{path: the axis whose entries have names} of the arrays that have one."""
    words = _Listed(0, "word pieces", pieces, source.pieces)
    out = {_WORDS: words}
    for head, spec in heads.items():
        for part, axis in spec.output_axes.items():
            if spec.tied:
                out[f"heads/{head}/{part}"] = dataclasses.replace(words, axis=axis)
            elif spec.named_by:
                theirs = source.names_of(head, spec.named_by)
                out[f"heads/{head}/{part}"] = _Listed(axis, spec.named_by, spec.names, theirs)
    return out


def _adapt(
    source: Source, path: str, array: np.ndarray, target: Any, listed: _Listed | None
) -> tuple[np.ndarray, np.ndarray | None, str, str]:
    """(array, mask of known entries or None, note, problem or "")."""
    if source.kind == "roberta" and path == _POSITIONS:
        array = array[_ROBERTA_FIRST_POSITION:]
    if listed and listed.differs:
        return _by_name(path, array, target, listed)
    rows, wanted = array.shape[0] if array.ndim else 0, tuple(target.shape)
    if array.shape[1:] == wanted[1:] and array.ndim:
        if path == _SEGMENTS and source.kind in _TEXT_ONLY and rows < wanted[0]:
            return _first_segments(array, wanted)
        if path == _POSITIONS and rows > wanted[0]:
            return array[: wanted[0]], None, f"the first {wanted[0]} of {rows} positions", ""
        if listed and listed.axis == 0 and _is_padded(listed, rows, wanted[0]):
            unused = rows - wanted[0]
            return array[: wanted[0]], None, f"without {unused} rows that no word piece has", ""
    if tuple(array.shape) != wanted:
        problem = f"{path}: {tuple(array.shape)} in the source, {wanted} in the model"
        if listed and listed.what == "word pieces":
            problem += (
                "; rows are mapped by word piece where both vocabularies are known: name the "
                "source's (--config.init_vocab=vocab.txt)"
            )
        return array, None, "", problem
    note = ""
    if listed and listed.taken_as_same:
        note = f"the source's list of {listed.what} is unknown; taken to be the same"
    return array, None, note, ""


def _is_padded(listed: _Listed, rows: int, wanted: int) -> bool:
    """Whether a table of the model's word pieces has rows after the last piece, for its size alone.

    Published tables are often padded to a multiple of 8, 64 or 128 (30,528 rows for 30,522 pieces).
    Where the source has a list, what is beyond it is padding, whatever the size.
    """
    if listed.what != "word pieces" or rows <= wanted:
        return False
    if listed.theirs:
        return len(listed.theirs) == wanted
    return bool(listed.mine) and any(rows == -(-wanted // n) * n for n in (8, 64, 128))


def _by_name(
    path: str, array: np.ndarray, target: Any, listed: _Listed
) -> tuple[np.ndarray, np.ndarray | None, str, str]:
    """Rows (or columns) moved to where the same name stands in the model's list."""
    axis, what = listed.axis, listed.what
    mine, theirs = listed.mine or (), listed.theirs or ()
    rest = [n for i, n in enumerate(array.shape) if i != axis]
    wanted = [n for i, n in enumerate(target.shape) if i != axis]
    if rest != wanted or array.shape[axis] < len(theirs):
        shapes = f"{tuple(array.shape)} in the source, {tuple(target.shape)} in the model"
        return array, None, "", f"{path}: {shapes} ({len(theirs)} {what} in the source's list)"
    place: dict[str, int] = {}
    for i, name in enumerate(theirs):
        place.setdefault(name, i)  # the first, as targets are looked up
    found = np.array([place.get(name, -1) for name in mine])
    if what == "answers":  # the same answer in another writing is the same answer
        alike = AnswerVocabulary(theirs, repeats=True)
        again = [i if i >= 0 else alike.lookup(mine[n]) for n, i in enumerate(found.tolist())]
        found = np.array(again)
    hit = np.flatnonzero(found >= 0)
    out = np.zeros(target.shape, array.dtype)
    index: tuple[Any, ...] = (slice(None),) * axis
    out[(*index, hit)] = np.take(array, found[hit], axis)
    mask = np.zeros([n if i == axis else 1 for i, n in enumerate(target.shape)], bool)
    mask[(*index, hit)] = True
    return out, mask, f"{len(hit):,} of {len(mine):,} {what} by name", ""


def _first_segments(
    array: np.ndarray, wanted: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, str, str]:
    """BERT's two segments, RoBERTa's one for both, into a table that may have more rows."""
    out, mask = np.zeros(wanted, array.dtype), np.zeros((wanted[0], 1), bool)
    count = min(2, wanted[0])
    out[:count], mask[:count] = array[:count], True
    return out, mask, f"the first {count} of {wanted[0]} segments", ""


def _half_groups(arrays: Iterable[str], missing: Iterable[str]) -> list[str]:
    """Modules of which some parameters came in and others did not."""
    loaded = {path.rsplit("/", 1)[0] for path in arrays}
    return [
        f"{path}: missing in the source, which has others of its module"
        for path in missing
        if path.rsplit("/", 1)[0] in loaded and path.count("/") > 2
    ]


def _suggestion(source: Source, target: Any) -> str:
    """The sizes of the source, as they would be configured."""
    word = source.arrays.get("trunk/embeddings/word/embedding")
    if word is None or not hasattr(word, "shape"):
        return ""
    layers = {m[1] for path in source.arrays if (m := re.match(r"trunk/layer_(\d+)/", path))}
    hidden = word.shape[1]
    known = {(768, 12): "base", (1024, 24): "large"}.get((hidden, len(layers)))
    mine = target["trunk/embeddings/word/embedding"].shape[1]
    size = f", the config argument size={known}" if known else ""
    return (
        f"\n  fix: the source is {hidden} wide with {len(layers)} layers (the model: {mine} wide); "
        f"set --config.model.hidden={hidden} --config.model.layers={len(layers)}{size}"
    )


def place(fitted: Fitted, fresh: Any) -> Any:
    """The fitted arrays on the devices, where `fresh` (initial parameters) are; the rest of these.

    Returns:
      Nested dict like `fresh`, with its shardings.
    """

    def put(path: str, initial: Any) -> Any:
        if path not in fitted.arrays:
            return initial
        array = fitted.arrays[path]

        def part(index: Any) -> np.ndarray:
            return array[index]

        new = jax.make_array_from_callback(array.shape, initial.sharding, part)
        if path not in fitted.known:
            return new
        choose = jax.jit(jnp.where, out_shardings=initial.sharding)
        return choose(fitted.known[path], new, initial)

    return paths.map_with_path(put, fresh)


def table(report: Sequence[Line]) -> str:
    """The report for people: layers of a kind together, every group with its fate."""
    groups: dict[tuple, list[Line]] = {}
    for line in report:
        name = line.path or line.name
        key = re.sub(r"(?<=[_.])\d+(?=[/.])", "*", name)
        parts = re.split(r"[/.]", key)
        joint = "/" if line.path else "."
        stem = joint.join(parts[:-1]) if len(parts) > 1 else key
        groups.setdefault((line.fate, stem, line.note), []).append(line)
    rows = []
    for (fate, stem, note), lines in groups.items():
        size = sum(int(np.prod(line.shape)) for line in lines if line.shape)
        rows.append((fate, stem, f"{len(lines)}", f"{size:,}" if size else "", note))
    order = {"mapped": 0, "initial": 1, "dropped": 2}
    rows.sort(key=lambda row: order[row[0]])
    header = ("", "parameters", "arrays", "numbers", "")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]
    shown = [
        f"{fate:<{widths[0]}}  {stem:<{widths[1]}}  {count:>{widths[2]}}  {size:>{widths[3]}}  "
        f"{note}".rstrip()
        for fate, stem, count, size, note in [header, *rows]
    ]
    fates = [x.fate for x in report]
    shown.append(", ".join(f"{fates.count(fate)} arrays {fate}" for fate in order))
    return "\n".join(shown)
