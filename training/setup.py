"""From a config to the parts of a run: opens the data, builds model, batches and evaluators."""

import dataclasses
import functools

import jax

import objectives
from input_pipeline import pipeline
from input_pipeline.schema import DataError
from input_pipeline.spec import FeatureSpec
from objectives import base
from training import evaluators, sharding, throughput
from training.multitask import MultiTask
from training.parts import Parts


class EvaluationStream:
    """A stream that evaluators read: every example once, this host's share.

    Attributes:
      special: ids of the special tokens.
    """

    def __init__(self, stream, data_config):
        self._stream, self._config = stream, data_config
        self.special = stream.special

    def batches(self):
        """Yields stream batches in order; the last one is padded with rows of weight 0."""
        name = self._stream.name
        for batch in pipeline.iterate(
            {name: self._stream},
            shard=_shard(),
            threads=self._config.threads,
            prefetch=self._config.prefetch,
            steps=self._stream.steps_per_epoch,
        ):
            yield batch[name]


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
    )


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


def _assembler(config, block):
    """How the texts of a stream are laid out: as its first objective says."""
    first = block.objectives[0]
    return objectives.find(first).assembler(config.objectives[first])


def build(config, mesh) -> Parts:
    """Opens what `config.data` names and builds what `config` describes.

    Raises:
      DataError, ValueError: whatever does not exist or does not fit, before the first step.
    """
    if jax.local_device_count() % mesh.shape["tensor"]:
        raise ValueError(
            f"config.mesh.tensor must divide the {jax.local_device_count()} devices of a process, "
            f"found {mesh.shape['tensor']}: each process reads rows of its own"
        )
    # A split "train" among the evaluations is there to be compared with the training.
    evaluated = {"eval", *(block.split for block in config.evals.values())} - {"train"}
    data = pipeline.Data(config.data, evaluated)
    assemble = {
        name: _assembler(config, block) if block.images else base.assemble_plain
        for name, block in config.streams.items()
    }
    streams = pipeline.build_streams(config, assemble, data=data)
    answers = data.prepared.answers
    task = MultiTask(config, data.special, data.spec, num_answers=len(answers) if answers else 0)

    def build_evaluator(name, block):
        sharding.check_batch_sizes(
            {block.stream: block.batch_size}, mesh, 1, "config.evals." + name
        )
        kind = evaluators.load(block.evaluator)
        if block.stream not in task.streams:
            raise ValueError(
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
        return kind(
            block,
            task,
            EvaluationStream(stream, config.data),
            functools.partial(sharding.place, mesh=mesh),
            config.seed,
        )

    heads = {
        stream: sorted({objective.head_name for objective in tasks})
        for stream, tasks in task.streams.items()
    }
    return Parts(
        task=task,
        example={name: stream.batch(0, _shard()) for name, stream in streams.items()},
        batches=lambda draws: pipeline.iterate(
            streams,
            draws,
            shard=_shard(),
            threads=config.data.threads,
            prefetch=config.data.prefetch,
        ),
        fingerprints={name: stream.fingerprint for name, stream in streams.items()},
        evaluators={name: build_evaluator(name, block) for name, block in config.evals.items()},
        facts=facts_of(data),
        priors=data.prepared.priors,
        check_features=functools.partial(check_facts, data),
        flops=lambda params: throughput.flops_per_step(
            config, params, heads, {name: len(found) for name, found in task.pairs.items()}
        ),
    )
