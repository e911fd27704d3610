"""Image and text retrieval: scores every text of a split with every image and ranks them.

Exact: every pair is scored by the whole model, once, and nothing that pads a batch is ranked. A
step is a grid of texts and images, the texts spread over the devices, the images on all of them:
what a trunk works out below the first place where the two meet (ViLBERT's lower text layers and
its embedding of regions) runs once per text and once per image, not once per pair. An image goes
to the devices once.

Where there is a run folder to write to (--mode=eval):

  WORKDIR/rankings/<name>/<split>.jsonl         the best images of each text, and its own one's rank
  WORKDIR/rankings/<name>/<split>.html          the same as a page (`evaluation.browser`)
  WORKDIR/rankings/<name>/<split>.scores.npy    all scores; an interrupted ranking resumes from them
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from core import remote
from core.checks import Check, text, whole
from core.console import say
from core.errors import ConfigError, DataError
from core.headings import Heading
from core.progress import Progress
from evaluation import evaluators, pair_scores, prediction_file, ranks, score_file
from evaluation.browser import examples, page
from evaluation.pair_scores import IMAGE_KEYS, TEXT_KEYS
from evaluation.report.details import Details
from evaluation.stream import EvaluationStream, Place
from input_pipeline.datasets.records import Caption, Record
from input_pipeline.streams import sampling
from objectives import base
from objectives.model import MultiTaskModel
from runtime import sharding

IN_FLIGHT = 2  # steps dispatched ahead of the one whose scores are fetched

Fold = tuple[np.ndarray, np.ndarray]  # numbers of texts and of their images


@dataclasses.dataclass
class Split:
    """The texts and images of a split, on the host.

    Attributes:
      texts: {key: [N, T]}.
      examples: int [N], rows of the table.
      own: int [N], number of each text's image.
      keys: int [M], rows of the region store, in the order of their first texts.
      images: {key: [R, …]} of each image, features as stored.
    """

    texts: dict[str, np.ndarray]
    examples: np.ndarray
    own: np.ndarray
    keys: np.ndarray
    images: list[dict[str, np.ndarray]]


class Evaluator(evaluators.Evaluator):
    """Needs a stream of captions and a head that scores pairs.

    `config.evals.<name>`: batch_size, texts per step, over all devices; images, images per step;
    head, name of an objective of the stream that scores pairs (four-way retrieval's scores, or
    zero-shot the log-odds of a match); first, images of the split that are ranked, with their
    texts, 0 for all; folds, parts that these are cut into, in order, each ranked by itself (COCO
    1k: 5), metrics averaged; top, images written of each text.
    """

    checks: ClassVar[Mapping[str, Check]] = dict(
        images=whole(1), head=text(empty=False), first=whole(0), folds=whole(1), top=whole(1)
    )
    distractors = False  # all other images of the split are
    files = "rankings"

    @classmethod
    def check(cls, block: ConfigDict, model: MultiTaskModel) -> None:
        options = model.block(block.stream)
        if getattr(model.trunk, "vision_sizes", None) is not None:
            raise ConfigError(
                "ranking reads every image with every text, and would see each picture as often",
                where="config.evals.*.evaluator",
                expected="a model that reads stored features",
                found="config.model.features='pixels'",
                fix="take the evaluation out, or --config.model.features=store",
            )
        if options.max_length < options.max_text + options.max_regions:
            raise ConfigError(
                f"ranking pairs every text with every image, so neither may be cut to make room "
                f"for the other: set config.streams.{block.stream}.max_length to max_text + "
                f"max_regions = {options.max_text + options.max_regions}, found "
                f"{options.max_length}"
            )
        _scorer(block, model)

    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        del seed  # nothing is drawn
        self._block, self._model, self._stream, self._place = block, model, stream, place
        self.check(block, model)
        self._scorer = _scorer(block, model)
        self._head_name = self._scorer.head_name
        self._step = jax.jit(self._scores, static_argnames="shards")

    def headings(self) -> dict[str, Heading]:
        found = {"texts": Heading("texts ranked"), "images": Heading("images ranked")}
        for name, what in ((ranks.IMAGES, "the right image"), (ranks.TEXTS, "a right text")):
            found |= {
                f"{name}_r{k}": Heading(f"{what} among the first {k} (R@{k})", "share")
                for k in ranks.RECALLS
            }
            found[f"{name}_median_rank"] = Heading(f"median rank of {what}")
            found[f"{name}_mean_rank"] = Heading(f"mean rank of {what}")
        return found

    def run(self, params: PyTree) -> dict[str, float | None]:
        """Recalls (0 to 1) and ranks from 1, of text → image and of image → text; the counts.

        image_retrieval_{r1,r5,r10,median_rank,mean_rank}: of the image a text belongs to;
        text_retrieval_…: of the best of the texts that belong to an image. See `ranks` for ties.

        Raises:
          DataError, ConfigError: scores that are not finite, or fewer images than folds.
        """
        split = self._read()
        folds = _folds(split, self._block.folds)
        scores = self._open(params, split)
        self._fill(params, split, folds, scores)
        totals, first = [], jax.process_index() == 0
        image_ranks: dict[int, int] = {}
        for texts, images in folds:
            part, own = scores[np.ix_(texts, images)], split.own[texts] - images[0]
            found = ranks.of_images(part, own)
            image_ranks |= dict(zip(texts.tolist(), found.tolist(), strict=True))
            totals.append(
                ranks.summary(ranks.IMAGES, found)
                | ranks.summary(ranks.TEXTS, ranks.of_texts(part, own))
                | ranks.chance(own, len(images))
            )
        if self.folder and first:
            self._save(split, folds, scores, image_ranks)
        metrics = {name: float(np.mean([one[name] for one in totals])) for name in totals[0]}
        return metrics | {"texts": float(len(split.own)), "images": float(len(split.keys))}

    def _read(self) -> Split:
        """Reads the split, on every process all of it: a text is ranked with all images."""
        texts = {key: [] for key in TEXT_KEYS}
        examples, owners, images = [], [], {}
        for batch in self._stream.batches(shard=(0, 1)):
            if "token_region" in batch:
                raise ConfigError(
                    "ranking pairs texts with foreign images, but the words of this data set "
                    f"mention regions of their own: stream {self._block.stream!r}"
                )
            keys = batch["image_key"][:, 0].tolist()
            real = []
            for i in np.flatnonzero(batch["_weight"] > 0).tolist():
                if keys[i] not in images and len(images) < (self._block.first or np.inf):
                    images[keys[i]] = {k: batch[k][i, 0].copy() for k in IMAGE_KEYS if k in batch}
                if keys[i] in images:
                    real.append(i)
            for key in TEXT_KEYS:
                texts[key].append(batch[key][real, 0])
            examples.append(batch["example_index"][real])
            owners.append(batch["image_key"][real, 0])
        number = {image: i for i, image in enumerate(images)}
        return Split(
            texts={key: np.concatenate(parts) for key, parts in texts.items()},
            examples=np.concatenate(examples),
            own=np.array([number[image] for image in np.concatenate(owners).tolist()]),
            keys=np.array(list(images)),
            images=list(images.values()),
        )

    def _open(self, params: PyTree, split: Split) -> np.ndarray:
        """float32 [N, M], NaN where a pair is not scored yet."""
        shape = len(split.own), len(split.keys)
        if not self.folder:
            return np.full(shape, np.nan, np.float32)
        # Scores are written in place: with a run on gs:// they stay on this machine.
        folder = remote.working_copy(self.folder) if remote.is_remote(self.folder) else self.folder
        stream, path = self._stream, folder / f"{self._block.split}.scores.npy"
        metadata = dict(
            parameters=score_file.digest(params),
            data=stream.fingerprint,
            model=f"{_fields(self._model.trunk)} {_fields(self._model.heads[self._head_name])}",
            head=self._head_name,
            texts=[stream.text_id(i) for i in split.examples.tolist()],
            images=[stream.store.keys[key] for key in split.keys.tolist()],
        )
        if jax.process_index() == 0:
            scores = score_file.open_scores(path, metadata, shape)
        else:
            scores = np.full(shape, np.nan, np.float32)
        if jax.process_count() > 1:  # what is done already must be the same everywhere
            shared = multihost_utils.broadcast_one_to_all(np.asarray(scores))
            scores = scores if jax.process_index() == 0 else np.array(shared)
        return scores

    def _fill(
        self, params: PyTree, split: Split, folds: Sequence[Fold], scores: np.ndarray
    ) -> None:
        """Computes the missing scores, in place."""
        mesh = jax.sharding.get_mesh()
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        blocks = list(_blocks(folds, self._block.batch_size, self._block.images))
        missing = [np.isnan(scores[np.ix_(*block)]).any() for block in blocks]
        total = sum(len(rows) * len(columns) for rows, columns in blocks)
        todo = [block for block, is_missing in zip(blocks, missing, strict=True) if is_missing]
        left = sum(len(rows) * len(columns) for rows, columns in todo)
        if left < total and jax.process_index() == 0:
            say(f"ranking: {total - left:,} of {total:,} pairs are scored already")
        progress = Progress(f"ranking {self._block.split}", left, unit="pairs")
        pending, placed, there = [], None, None

        def fetch(ahead: int) -> None:
            while len(pending) > ahead:
                (rows, columns), out = pending.pop(0)
                values = np.asarray(out)[: len(rows), : len(columns)]
                if not np.isfinite(values).all():
                    raise DataError(f"ranking: scores of the model are not finite, {values}")
                scores[np.ix_(rows, columns)] = values
                if jax.process_index() == 0:
                    progress.add(values.size)

        for rows, columns in todo:
            if there is not columns:
                placed, there = self._place_images(split, columns, mesh), columns
            texts = self._place_texts(split, rows)
            pending.append(((rows, columns), self._step(params, texts, placed, shards=shards)))
            fetch(IN_FLIGHT)
        fetch(0)

    def _place_texts(self, split: Split, rows: np.ndarray) -> dict[str, Array]:
        """This process's share of a step's texts, [B, T] over the devices; the last one repeats."""
        rows = _padded(rows, self._block.batch_size)
        rows = rows[sampling.host_slice(len(rows), jax.process_index(), jax.process_count())]
        return self._place({key: array[rows] for key, array in split.texts.items()})

    def _place_images(
        self, split: Split, columns: np.ndarray, mesh: jax.sharding.Mesh
    ) -> dict[str, Array]:
        """A step's images, [M, R, …] on every device; the last one repeats."""
        images = [split.images[i] for i in _padded(columns, self._width(split)).tolist()]
        whole = sharding.replicated(mesh)
        return {
            key: jax.make_array_from_process_local_data(
                whole, np.stack([image[key] for image in images])
            )
            for key in images[0]
        }

    def _width(self, split: Split) -> int:
        return min(self._block.images, len(split.images))

    def _scores(
        self,
        params: PyTree,
        texts: Mapping[str, Array],
        images: Mapping[str, Array],
        *,
        shards: int,
    ) -> Float[Array, "B M"]:
        """[B, M] of texts [B, T] and images [M, R, …].

        Each shard of the texts is one example with B / shards texts and all M images.
        """
        count, width = texts["text_ids"].shape[0] // shards, images["regions"].shape[0]
        split = functools.partial(jax.lax.with_sharding_constraint, shardings=sharding.BATCH)
        batch = {key: split(x.reshape(shards, count, -1)) for key, x in texts.items()}
        for key, x in images.items():
            batch[key] = split(jnp.broadcast_to(x, (shards, *x.shape)))
        score = pair_scores.of_grid(
            self._model, self._scorer, params, self._block.stream, batch
        ).reshape(shards * count, width)
        return jax.lax.with_sharding_constraint(score, jax.sharding.PartitionSpec())

    def _save(
        self,
        split: Split,
        folds: Sequence[Fold],
        scores: np.ndarray,
        image_ranks: Mapping[int, int],
    ) -> None:
        """Writes the best images of each text: {"id", "image", "rank", "top": [[image, score]]}."""
        stream, names = self._stream, {}
        for _, images in folds:
            names |= {i: stream.store.keys[split.keys[i]] for i in images.tolist()}
        path = self.folder / f"{self._block.split}.jsonl"
        ranked, captions = [], {}
        fold_of = {text: images for texts, images in folds for text in texts.tolist()}
        with prediction_file.text_file(path) as file:
            for text, example in enumerate(split.examples.tolist()):
                images = fold_of[text]
                row = scores[text, images]
                best = np.argsort(-row, kind="stable")[: self._block.top]
                line = dict(
                    id=stream.text_id(example),
                    image=names[int(split.own[text])],
                    rank=image_ranks[text],
                    top=[[names[int(images[i])], round(float(row[i]), 5)] for i in best],
                )
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                regions = int(split.images[split.own[text]]["region_mask"].sum()) - 1
                ranked.append(prediction_file.Answered(line, None, regions))
                words = stream.words(split.texts["text_ids"][text].tolist())
                captions[line["id"]] = Caption(line["id"], line["image"], words)
        say(f"rankings: {path}, {self._write_page(ranked, captions)}")

    def _write_page(
        self, ranked: Sequence[prediction_file.Answered], captions: Mapping[str, Record]
    ) -> remote.Path:
        """Writes the page of all texts, each with its own image and the one ranked first."""
        name, path = self._block.stream, self.folder / f"{self._block.split}.html"
        streams, workdir = {name: self._stream}, self.folder.parent.parent
        made = [
            {"stream": name} | one for one in examples.of_records(ranked, captions, self._stream)
        ]
        title = f"{remote.absolute(workdir).name}: {self.folder.name} of {self._stream.split}"
        content = page.content(
            title,
            remote.absolute(workdir).name,
            made,
            examples.pictures(made, streams),
            Details(),
            place=str(workdir),
            splits={name: self._stream.split},
        )
        page.write(path, content)
        return path


def _scorer(block: ConfigDict, model: MultiTaskModel) -> base.Objective:
    """The objective of the stream whose head ranks.

    Raises:
      ConfigError: the stream has no such objective, or it scores no pairs.
    """
    found = {
        one.name: one
        for one in base.able(model.streams[block.stream], base.Ability.SCORE_PAIRS, block.stream)
    }
    if block.head not in found:
        raise ConfigError(
            "ranking needs an objective that scores pairs of a caption and an image",
            where="config.evals.*.head",
            expected=f"one of {sorted(found)}, of config.streams.{block.stream}.objectives",
            found=repr(block.head),
        )
    return found[block.head]


def _folds(split: Split, count: int) -> list[Fold]:
    """(texts, images) of each part; images are consecutive.

    Raises:
      ConfigError: more parts than images.
    """
    size = len(split.keys)
    if count > size:
        raise ConfigError(f"config.evals: {count} folds of {size} images")
    parts = np.array_split(np.arange(size), count)
    return [(np.flatnonzero(np.isin(split.own, images)), images) for images in parts]


def _blocks(folds: Sequence[Fold], height: int, width: int) -> Iterator[Fold]:
    """Yields (texts, images) of each step: all texts of a group of images, then the next group."""
    for texts, images in folds:
        for i in range(0, len(images), width):
            columns = images[i : i + width]
            for j in range(0, len(texts), height):
                yield texts[j : j + height], columns


def _padded(index: np.ndarray, size: int) -> np.ndarray:
    return np.pad(index, (0, size - len(index)), mode="edge")


def _fields(module: Any) -> dict[str, dict[str, str]]:
    """{class: fields} of a Flax module, without name and parent, which change no result."""
    hidden = ("name", "parent")
    fields = {f.name: getattr(module, f.name) for f in dataclasses.fields(module)}
    return {type(module).__name__: {k: str(v) for k, v in fields.items() if k not in hidden}}
