"""From a config to the parts of a run: opens the data, builds model, batches and evaluators."""

import dataclasses
import functools
import hashlib
import json
import socket

import jax

import objectives
from core.errors import ConfigError, DataError
from evaluation import evaluators, predict
from input_pipeline.datasets.reading import pictures
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.streams import pipeline
from objectives import base
from objectives.model import MultiTaskModel
from runtime import cluster, sharding, signals, watchdog
from training.parts import Parts
from training.run import throughput


class EvaluationStream:
    """A stream that evaluators read: every example once, this host's share.

    Attributes:
      stream: the `pipeline.Stream`.
      special: ids of the special tokens.
      split: the data set's own name of it.
      records: records() → the records of the split, or None.
      answers: the answer list, or None.
      names: what predictions are called by number: answers, or labels, or ().
      pictures: a `pictures.Lookup`.
    """

    def __init__(self, stream, data_config, prepared, split: str, lookup=lambda image_ids: {}):
        self._stream, self._config = stream, data_config
        self.stream, self.special, self.split = stream, stream.special, split
        self.records = functools.partial(prepared.records, split) if prepared.records else None
        self.answers = tuple(prepared.answers.labels) if prepared.answers else None
        self.names = self.answers or tuple(prepared.labels)
        self.pictures = lookup

    def batches(self, shard: tuple[int, int] | None = None):
        """Yields stream batches in order; the last one is padded with rows of weight 0.

        Args:
          shard: (index, count) of hosts; None: this host's share, (0, 1): everything.
        """
        name = self._stream.name
        for batch in pipeline.iterate(
            {name: self._stream},
            shard=shard or _shard(),
            threads=self._config.threads,
            prefetch=self._config.prefetch,
            steps=self._stream.steps_per_epoch,
        ):
            yield batch[name]

    def pick(self, draws):
        """Yields these batches alone, by number."""
        for draw in draws:
            yield self._stream.batch(draw, _shard())


def _shard() -> tuple[int, int]:
    return jax.process_index(), jax.process_count()


def facts_of(data) -> dict:
    """What a checkpoint must say of the data it was trained on: JSON."""
    answers = data.prepared.answers
    return dict(
        feature_spec=data.spec.to_dict(),
        special=dataclasses.asdict(data.special),
        vocab=str(data.prepared.vocab),
        vocab_fingerprint=data.tokenizer.fingerprint,
        pieces=sorted(data.tokenizer.vocab, key=data.tokenizer.vocab.get),
        answers=list(answers.labels) if answers else None,
        labels=list(data.prepared.labels),
    )


def _digest(facts) -> str:
    """Of what `facts_of` says, but for where the vocabulary lies."""
    text = json.dumps({name: fact for name, fact in facts.items() if name != "vocab"})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_facts(data, facts, where: str, vocabulary: bool = True) -> None:
    """Compares `facts_of` a checkpoint with the data at hand, as far as it has any.

    Args:
      vocabulary: whether word pieces and answers must be the same, too; else they are mapped by
        name.

    Raises:
      DataError: other features, vocabulary or answers; names both.
    """
    if "feature_spec" in facts:
        saved = FeatureSpec.from_dict(facts["feature_spec"], where)
        data.spec.require_match(saved, "config.data.regions", where)
    if not vocabulary:
        return
    if facts["vocab_fingerprint"] != data.tokenizer.fingerprint:
        raise DataError(
            "the checkpoint was trained with another vocabulary: its word ids mean other words",
            where=where,
            expected=facts["vocab"],
            found=str(data.prepared.vocab),
            fix="--config.data.vocab=<the vocabulary of the checkpoint>",
        )
    here = facts_of(data)["answers"]
    if facts.get("answers") != here:
        raise DataError(
            "the checkpoint was trained with another list of answers",
            where=where,
            expected=f"{len(facts.get('answers') or [])} answers, as in the checkpoint",
            found=f"{len(here or [])} answers, in part others or in another order",
            fix="--config.data.answers=<the list of the checkpoint>",
        )
    labels = list(data.prepared.labels)
    if facts.get("labels", labels) != labels:
        raise DataError(
            "the checkpoint was trained with another list of classes",
            where=where,
            expected=facts["labels"][:20],
            found=labels[:20],
            fix="--config.data.answers=<the list of the checkpoint, a .json>",
        )


def _assembler(config, block):
    """How the texts of a stream are laid out: as its first objective says."""
    first = block.objectives[0]
    own = config.objectives[first]
    return objectives.of_block(first, own).assembler(own)


def assemblers(config) -> dict:
    """{stream: assemble function}."""
    return {
        name: _assembler(config, block) if block.images else base.assemble_plain
        for name, block in config.streams.items()
    }


def build(config, mesh) -> Parts:
    """Opens what `config.data` names and builds what `config` describes.

    Raises:
      DataError, ValueError: whatever does not exist or does not fit, before the first step; so
        do data other than those of process 0.
    """
    parts, digests = prepare(config, mesh)
    require_same_data(digests)
    return parts


def prepare(config, mesh) -> tuple[Parts, dict[str, str]]:
    """As `build`, without a comparison between processes; also digests of what is read.

    Of several processes the first one prepares data sets and tables; the others find them on the
    folder they share, or else prepare their own after it.

    Returns:
      The parts, and {what: digest} of the examples of every stream and of the vocabulary.
    """
    with cluster.first_alone():
        return _prepare(config, mesh)


def require_same_data(digests: dict[str, str]) -> None:
    """Compares what this process reads with what process 0 does; all processes must call it.

    Args:
      digests: {what: digest}, of everything that is shared out by row numbers.

    Raises:
      DataError: names what differs and the host.
    """
    told = json.loads(cluster.told_by_first(json.dumps(digests)))
    differing = [name for name in sorted({*told, *digests}) if told.get(name) != digests.get(name)]
    if differing:
        raise DataError(
            "the processes of this job read different data",
            where=f"process {jax.process_index()} on {socket.gethostname()}, {differing}",
            expected="the digests of process 0: " + ", ".join(str(told.get(n)) for n in differing),
            found=", ".join(str(digests.get(name)) for name in differing),
            fix="give all hosts the same files: annotations, regions, vocabulary, list of answers",
        )


def _prepare(config, mesh) -> tuple[Parts, dict[str, str]]:
    sharding.check_processes(mesh)
    # A split "train" among the evaluations is there to be compared with the training.
    evaluated = {"eval", *(block.split for block in config.evals.values())} - {"train"}
    data = pipeline.Data(config.data, evaluated)
    assemble = assemblers(config)
    streams = pipeline.build_streams(config, assemble, data=data)
    fingerprints = {name: stream.fingerprint for name, stream in streams.items()}
    digests = {f"streams.{name}": digest for name, digest in fingerprints.items()}
    answers = data.prepared.answers
    listed = list(answers.labels) if answers else []
    lists = base.OutputLists(
        answers=listed,
        answer_pieces=[text.ids for text in data.tokenizer.encode_batch(listed)],
        labels=data.prepared.labels,
    )
    task = MultiTaskModel(config, data.special, data.spec, dict.fromkeys(config.streams, lists))

    def place(batch):
        watchdog.beat()  # evaluation moves on
        signals.check()
        return sharding.place(batch, mesh)

    def build_evaluator(name, block):
        sharding.check_batch_sizes(
            {block.stream: block.batch_size}, mesh, 1, "config.evals." + name
        )
        kind = evaluators.load(block.evaluator)
        if block.stream not in task.streams:
            raise ConfigError(
                f"config.evals.{name} reads stream {block.stream!r}, but only "
                f"{sorted(task.streams)} are on (batch_size > 0)"
            )
        stream = pipeline.build_evaluation(
            config,
            block.stream,
            assemble,
            split=block.split,
            batch_size=block.batch_size,
            other_image=kind.other_image,
            data=data,
        )
        digests[f"evals.{name}"] = stream.fingerprint
        return kind(
            block,
            task,
            EvaluationStream(stream, config.data, data.prepared, data.split_name(block.split)),
            place,
            config.seed,
        )

    predicted = predict.streams_of(task)

    # Asked for now, so that a folder that is not there is no surprise after training.
    lookup = pictures.open_pictures(config.data, data.prepared) if predicted else None

    def build_predictor(name):
        stream = pipeline.build_evaluation(
            config, name, assemble, batch_size=config.streams[name].batch_size, data=data
        )
        split = data.split_name("eval")
        return predict.Predictor(
            task, name, EvaluationStream(stream, config.data, data.prepared, split, lookup), place
        )

    def build_predictors():
        with cluster.first_alone():  # nothing may have been read of the split yet
            built = {name: build_predictor(name) for name in predicted}
        require_same_data(
            {f"predict.{name}": one.stream.stream.fingerprint for name, one in built.items()}
        )
        return built

    facts = facts_of(data)
    digests["vocabulary and answers"] = _digest(facts)
    parts = Parts(
        task=task,
        example={name: stream.example(_shard()) for name, stream in streams.items()},
        batches=lambda draws: pipeline.iterate(
            streams,
            draws,
            shard=_shard(),
            threads=config.data.threads,
            prefetch=config.data.prefetch,
        ),
        fingerprints=fingerprints,
        evaluators={name: build_evaluator(name, block) for name, block in config.evals.items()},
        predictors=build_predictors,
        facts=facts,
        priors=data.prepared.priors,
        check_features=functools.partial(check_facts, data),
        flops=throughput.of_model(config, task),
    )
    return parts, digests
