"""From a config to the parts of a run: opens the data, builds model, batches and evaluators."""

import dataclasses
import functools

import jax

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
    return dict(
        feature_spec=data.spec.to_dict(),
        special=dataclasses.asdict(data.special),
        vocab=str(data.prepared.vocab),
        vocab_fingerprint=data.tokenizer.fingerprint,
    )


def check_facts(data, facts, where: str) -> None:
    """Compares `facts_of` a checkpoint with the data at hand.

    Raises:
      DataError: other features or another vocabulary; names both.
    """
    saved = FeatureSpec.from_dict(facts["feature_spec"], where)
    data.spec.require_match(saved, "config.data.regions", where)
    if facts["vocab_fingerprint"] != data.tokenizer.fingerprint:
        raise DataError(
            "the checkpoint was trained with another vocabulary: its word ids mean other words",
            where=where,
            expected=facts["vocab"],
            found=str(data.prepared.vocab),
            fix="--config.data.vocab=<the vocabulary of the checkpoint>",
        )


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
    data = pipeline.Data(config.data)
    assemble = {
        name: base.assemble_caption if block.images else base.assemble_plain
        for name, block in config.streams.items()
    }
    streams = pipeline.build_streams(config, assemble, data=data)
    task = MultiTask(config, data.special, data.spec)

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
        flops=lambda params: throughput.flops_per_step(config, params, heads),
    )
