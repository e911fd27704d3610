"""From a config to the parts of a run: opens the data, builds model, batches and evaluators."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

import objectives
from evaluation import evaluators, predict
from evaluation.stream import EvaluationStream, no_pictures, process_shard
from input_pipeline.datasets.reading import pictures
from input_pipeline.streams import pipeline
from objectives import assemble, base
from objectives.model import MultiTaskModel
from runtime import cluster, sharding, signals, watchdog
from training import data_metadata
from training.parts import Parts
from training.run import throughput


def assemblers(config) -> dict[str, Callable[..., dict]]:
    """{stream: assemble function}: a stream's texts are laid out as its first objective says."""

    def of(block) -> Callable[..., dict]:
        if not block.images:
            return assemble.plain
        first = block.objectives[0]
        return objectives.of_block(first, config.objectives[first]).assembler(
            config.objectives[first]
        )

    return {name: of(block) for name, block in config.streams.items()}


def build(config, mesh: jax.sharding.Mesh) -> Parts:
    """Opens what `config.data` names and builds what `config` describes.

    Raises:
      UserError: whatever does not exist or does not fit, before the first step; so do data other
        than those of process 0.
    """
    parts, digests = prepare(config, mesh)
    data_metadata.require_same_on_all_processes(digests)
    return parts


def prepare(config, mesh: jax.sharding.Mesh) -> tuple[Parts, dict[str, str]]:
    """As `build`, without a comparison between processes; also digests of what is read.

    Of several processes the first one prepares data sets and tables; the others find them on the
    folder they share, or else prepare their own after it.

    Returns:
      The parts, and {what: digest} of the examples of every stream and of the vocabulary.
    """
    with cluster.first_alone():
        setup = _Setup(config, mesh)
        return setup.parts(), setup.digests


def _evaluated_splits(config) -> dict[str, set[str]]:
    """{stream: splits that are evaluated}, whose images are not trained on."""
    splits = {name: {"eval"} for name in config.streams}
    for block in config.evals.values():
        if block.stream in splits:
            splits[block.stream].add(block.split)
    # A split "train" among the evaluations is there to be compared with the training.
    return {name: found - {"train"} for name, found in splits.items()}


class _Setup:
    """What the parts of a run are made of.

    Attributes:
      digests: {what: digest} of everything that has been opened to be read.
    """

    def __init__(self, config, mesh: jax.sharding.Mesh):
        self._config, self._mesh = config, mesh
        self._catalog = pipeline.DataCatalog(config, _evaluated_splits(config))
        self._assemble = assemblers(config)
        self._model = self._build_model()
        self._streams = pipeline.build_streams(
            config,
            self._assemble,
            catalog=self._catalog,
            image_margin=self._model.trunk.image_margin,
        )
        shard = process_shard()
        self._examples = {name: stream.example(shard) for name, stream in self._streams.items()}
        self._predicted = predict.streams_of(self._model)
        # Checked now, so that a missing folder does not fail only after training.
        self._pictures = {name: self._lookup(name) for name in self._predicted}
        self.digests = {f"streams.{n}": stream.fingerprint for n, stream in self._streams.items()}

    def parts(self) -> Parts:
        """The parts; evaluators are built now, predictors when they are asked for."""
        config, data = self._config, {name: self._catalog.of(name) for name in self._streams}
        metadata = data_metadata.of(data)
        self.digests["vocabulary and answers"] = data_metadata.digest(metadata)
        return Parts(
            model=self._model,
            example=self._examples,
            batches=self._batches,
            passes={name: stream.steps_per_epoch for name, stream in self._streams.items()},
            fingerprints={name: stream.fingerprint for name, stream in self._streams.items()},
            evaluators={name: self._evaluator(name, block) for name, block in config.evals.items()},
            predictors=self._predictors,
            loss_terms={
                f"{name}/{objective.name}": objective.loss_terms
                for name, found in self._model.streams.items()
                for objective in found
                if objective.mean_loss
            },
            data_metadata=metadata,
            priors={k: v for one in data.values() for k, v in one.prepared.priors.items()},
            check_data=functools.partial(data_metadata.require_same, data),
            flops=throughput.of_model(config, self._model),
        )

    def _build_model(self) -> MultiTaskModel:
        lists: dict[str, base.OutputLists] = {}
        trained = [name for name, block in self._config.streams.items() if block.batch_size]
        common = self._catalog.of(trained[0])
        for name in trained:
            prepared = self._catalog.of(name).prepared
            answers = list(prepared.answers.labels) if prepared.answers else []
            lists[name] = base.OutputLists(
                answers=answers,
                answer_pieces=[text.ids for text in common.tokenizer.encode_batch(answers)],
                labels=prepared.labels,
            )
        return MultiTaskModel(self._config, common.special, common.spec, lists)

    def _batches(
        self, plan: Iterator[Mapping[str, int]]
    ) -> Iterator[tuple[dict[str, int], dict[str, dict]]]:
        return pipeline.read_ahead(
            self._streams,
            plan,
            shard=process_shard(),
            threads=self._config.data.threads,
            prefetch=self._config.data.prefetch,
            examples=self._examples,
        )

    def _lookup(self, name: str) -> pictures.Lookup:
        """The pictures of a stream's images."""
        return pictures.open_pictures(self._catalog.block(name), self._catalog.of(name).prepared)

    def _place(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        watchdog.beat()  # evaluation moves on
        signals.check()
        return sharding.place(batch, self._mesh)

    def _evaluation_stream(
        self,
        name: str,
        *,
        split: str,
        batch_size: int,
        other_image: bool = False,
        distractors: bool = True,
        lookup: pictures.Lookup = no_pictures,
    ) -> EvaluationStream:
        """The examples of a split, laid out as a stream of the training is."""
        data, config = self._catalog.of(name), self._config
        if config.streams[name].couples and not distractors:
            config = config.copy_and_resolve_references()
            config.streams[name].update(distractors="", couples=0)
        stream = pipeline.build_evaluation(
            config,
            name,
            self._assemble,
            split=split,
            batch_size=batch_size,
            other_image=other_image,
            catalog=self._catalog,
            image_margin=self._model.trunk.image_margin,
            # Regions share the position after the text, [END] has the next.
            longest_text=self._config.model.positions - 2,
        )
        return EvaluationStream(
            stream, self._catalog.block(name), data.prepared, data.split_name(split), lookup
        )

    def _evaluator(self, name: str, block) -> evaluators.Evaluator:
        kind = evaluators.load(block.evaluator)
        stream = self._evaluation_stream(
            block.stream,
            split=block.split,
            batch_size=block.batch_size,
            other_image=kind.other_image,
            distractors=kind.distractors,
            lookup=self._lookup(block.stream) if kind.files else no_pictures,
        )
        self.digests[f"evals.{name}"] = stream.fingerprint
        made = kind(block, self._model, stream, self._place, self._config.seed)
        made.split, made.examples = stream.split, stream.num_examples
        return made

    def _predictor(self, name: str) -> predict.Predictor:
        stream = self._evaluation_stream(
            name,
            split="eval",
            batch_size=self._config.streams[name].batch_size,
            lookup=self._pictures[name],
        )
        return predict.Predictor(self._model, name, stream, self._place)

    def _predictors(self) -> dict[str, predict.Predictor]:
        with cluster.first_alone():  # nothing may have been read of the split yet
            built = {name: self._predictor(name) for name in self._predicted}
        data_metadata.require_same_on_all_processes(
            {f"predict.{name}": one.stream.fingerprint for name, one in built.items()}
        )
        return built
