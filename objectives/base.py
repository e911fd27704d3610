"""What an objective is."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Key
from ml_collections import ConfigDict

from core.errors import ConfigError, DataError
from core.headings import Heading
from input_pipeline.schema import FIELDS, SpecialIds
from objectives import assemble, masking
from vl_models.heads import HeadSpec
from vl_models.layers import Pairs
from vl_models.trunk import Trunk

Arrays = Mapping[str, Any]  # of a stream batch, or the trunk's outputs
Keys = Key[Array, " B"]  # one per row of a batch
Scalar = Float[Array, ""]
Pair = tuple[Scalar, Scalar]  # sum and weight of a mean
Head = Callable[..., Float[Array, "..."]]  # holds its parameters and mode


class Phase(enum.IntEnum):
    """When an objective corrupts a batch: the objectives of a stream do so in this order.

    Those that hide nothing belong to the first, in the order of the config.
    """

    SWAP_TEXTS = 0
    MASK_WORDS = 1
    MASK_REGIONS = 2


class Ability(enum.Enum):
    """What a trained objective can do besides its loss; evaluators require these."""

    FILL_WORDS = "fills masked words in"
    SCORE_PAIRS = "scores how well a text and an image fit, to rank them"
    JUDGE_PAIRS = "says whether a text and an image belong together"
    ANSWER = "answers questions from a list"
    CHOOSE = "chooses one of several texts"
    LOCATE = "finds the region that a text means"
    CLASSIFY = "says which class a text and its images are of"


@dataclasses.dataclass(frozen=True)
class OutputLists:
    """What a data set calls the outputs of heads, by number.

    Attributes:
      answers: the answer list, empty without one.
      answer_pieces: vocabulary ids of the word pieces of each answer.
      labels: the classes that its labels are of, empty where it names none.
    """

    answers: Sequence[str] = ()
    answer_pieces: Sequence[Sequence[int]] = ()
    labels: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What objectives know about the data.

    Attributes:
      special: ids of the special tokens.
      max_text: T.
      feature_dim: F.
      num_classes: C of the detector, 0 without distributions.
      stored_mean: whether row 0 of the regions is their mean (else the detector's own feature).
      pixels: whether the trunk makes the features out of pictures, so that a batch has none.
      lists: answers and labels of the stream's data set.
      stream: its name, for messages.
      order: in which its regions come, "confidence" needing class distributions, too.
    """

    special: SpecialIds
    max_text: int
    feature_dim: int
    num_classes: int
    stored_mean: bool
    lists: OutputLists = OutputLists()
    stream: str = ""
    order: str = "stored"
    pixels: bool = False


@dataclasses.dataclass(frozen=True)
class InitialValue:
    """The initial value of a parameter, computed from others of a checkpoint.

    Attributes:
      array: of the parameter's shape.
      origin: path of the parameter that it is computed from.
      note: how, for the report.
      known: mask that broadcasts to the array, where only some entries could be computed.
      replaces: whether it takes precedence over the checkpoint's value of the parameter itself.
    """

    array: np.ndarray
    origin: str
    note: str
    known: np.ndarray | None = None
    replaces: bool = False


class Objective:
    """What is learned on a stream: an instance of `config.objectives`.

    Attributes:
      kind: its file's name.
      title: what its accuracy counts, for people, such as "masked words predicted right".
      name: its name in the config; also of its loss and metrics.
      head_name: parameters are at `heads/<head_name>`; objectives may share a head.
      phase: when it corrupts the batch.
      block: its part of the config.
      abilities: what evaluators may ask of it, each through the method that implements it.
      named_by: list of the data set that its head's outputs are of, "answers" or "labels"; or "".
      choices: candidate texts per example; 0: one text.
      microbatchable: whether the loss is a sum over examples, so that a batch may be cut.
      whole_text: whether every token counts, so that no text may be cut to make room for regions.
      flip_invariant: whether its targets survive mirrored boxes and words.
      hides_regions: whether it hides regions, so that the trunk needs what stands in for them.
      predicts: whether it implements `predictions`, one answer per example.
      pairs: static ((text, image), ...) of each example that the trunk is run on; None:
        whatever another objective of the stream says, else the first text with the first image.
      reads: keys of the batch that it learns from, beside texts and regions.
      pooled_only: whether the pooled state is all that it reads of the trunk, which then leaves
        the rest of its last layer out.
    """

    kind: ClassVar[str]
    title: ClassVar[str] = ""
    abilities: frozenset[Ability] = frozenset()
    phase: Phase = Phase.SWAP_TEXTS
    named_by: str = ""
    choices: int = 0
    microbatchable: bool = True
    whole_text: bool = False
    flip_invariant: bool = True
    hides_regions: bool = False
    predicts: bool = False
    pairs: Pairs | None = None
    reads: tuple[str, ...] = ()
    pooled_only: bool = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.kind = cls.__module__.rpartition(".")[2]

    def __init__(self, name: str, block: ConfigDict, data_info: DataInfo):
        self.name, self.block, self.data_info = name, block, data_info
        self.head_name: str = block.get("head") or name  # configs saved by earlier versions lack it

    @classmethod
    def assembler(cls, block: ConfigDict) -> assemble.Assembler:
        """assemble(table, rows, special, max_text) → text arrays, as the first objective has it."""
        del block
        return assemble.caption

    @property
    def appearance(self) -> str:
        """Key of the batch that shows what images look like."""
        return "images" if self.data_info.pixels else "regions"

    @property
    def where(self) -> str:
        """Its block of the config, for messages."""
        return f"config.objectives.{self.name}"

    def metric(self, what: str, short: str = "") -> str:
        """A metric's name: `<name>_<what>`; `short` stands for a name that is just its kind."""
        return f"{short if short and self.name == self.kind else self.name}_{what}"

    def draw(self, keys: Keys, purpose: str, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
        """Random numbers for one purpose of this objective, independent of every other's.

        Args:
          keys: of the rows, as `corrupt` gets them.
          purpose: what is drawn, such as "which words".
          shape: of a row's numbers.

        Returns:
          [B, *shape] uniform in [0, 1).
        """
        return masking.uniform(masking.named(keys, f"{self.name}/{purpose}"), shape)

    def headings(self) -> dict[str, Heading]:
        """What its loss and its metrics are for people: {name: heading}."""
        loss, (count, term) = f"loss of {self.name.replace('_', ' ')}", self.loss_terms
        found = {name: Heading(text, "share") for name, text in self.shares().items()}
        if count > 1:
            found[self.mean_loss] = Heading(f"{loss}, mean over {count:,} {term}s")
            loss += f", sum over {count:,} {term}s"
        return {self.name: Heading(loss)} | found

    @property
    def loss_terms(self) -> tuple[int, str]:
        """How many terms the loss of one example is the sum of, and what each is of."""
        return 1, ""

    @property
    def mean_loss(self) -> str:
        """Name of the loss's mean over its terms; "" where it is no sum."""
        count, term = self.loss_terms
        return f"{self.name}_loss_per_{term}" if count > 1 else ""

    def shares(self) -> dict[str, str]:
        """{metric that is a share from 0 to 1: what it is, in words}."""
        return {self.metric("accuracy"): self.title} if self.title else {}

    def guesses(self, batch: Arrays) -> dict[str, tuple[Float[Array, "..."], Scalar]]:
        """What guessing reaches in a corrupted batch, beside which an accuracy is to be read.

        Returns:
          {metric: (sums, weight)}: the sum that each constant prediction gets, [outputs], of which
          the best one counts over all examples; or what a choice at random gets, a scalar.
        """
        del batch
        return {}

    def check_stream(self, stream: str, block: ConfigDict) -> None:
        """Stream options that would spoil the objective silently are errors here.

        Args:
          stream: name of it.
          block: `config.streams.<stream>`.

        Raises:
          ConfigError: texts that may be cut, or boxes that are mirrored, where it allows neither.
        """
        where, together = f"config.streams.{stream}", block.max_text + block.max_regions
        if self.whole_text and block.images and block.max_length < together:
            raise ConfigError(
                f"{where}: {self.name} needs its texts whole, but text and regions are cut "
                f"together to max_length {block.max_length}; set it to max_text + max_regions "
                f"= {together}"
            )
        if not self.flip_invariant and block.flip != "off":
            raise ConfigError(
                f"{where}.flip must be 'off' with {self.name}, whose answers are not mirrored; "
                f"found {block.flip!r}"
            )

    def need(self, batch: Arrays, key: str, **axes: int) -> None:
        """Checks that the stream's data have what the objective reads.

        Args:
          batch: stream batch.
          key: of it.
          axes: sizes that the array must have, by axis letter.

        Raises:
          DataError: there is no such array, or another number of texts or images.
        """
        field = FIELDS[key]
        if key not in batch:
            raise DataError(
                f"objective {self.name!r} needs {key!r} ({field.meaning}), which this data set "
                f"does not have; its batches hold {sorted(batch)}"
            )
        found = dict(zip(field.axes.split(), batch[key].shape, strict=True))
        wrong = {letter: found[letter] for letter in axes if found[letter] != axes[letter]}
        if wrong:
            raise DataError(
                f"objective {self.name!r} reads {axes} of an example's {key!r} [{field.axes}], "
                f"found {wrong}"
            )

    def pooled(self, outputs: Arrays) -> Float[Array, "N D"]:
        """The trunk's pooled state.

        Raises:
          ConfigError: the model has no pooler.
        """
        if "pooled" not in outputs:
            raise ConfigError(
                f"objective {self.name!r} reads the pooled state, which the model does not have",
                fix="set config.model.pooler=True",
            )
        return outputs["pooled"]

    def head(self, trunk: Trunk) -> HeadSpec:
        """How its head is built; `trunk` gives the widths of its inputs."""
        raise NotImplementedError

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the head's outputs are called, by number; () where they have no names."""
        return tuple(getattr(self.data_info.lists, self.named_by)) if self.named_by else ()

    def head_positions(self, text: int, regions: int) -> int:
        """States of a row that the head is applied at in training, the fewest it is compiled for.

        Args:
          text: T.
          regions: R.
        """
        del text, regions
        return 1

    def warm_start(self) -> dict[str, str]:
        """{prefix of own parameters: prefix of others that a pre-trained model has instead}."""
        return {}

    def initial_values(self, arrays: Arrays, known: Arrays) -> dict[str, InitialValue]:
        """{path of a parameter: what it starts as}, where a copy (`warm_start`) does not say it.

        Args:
          arrays: {path: numpy array} of a checkpoint: as fitted to the model, else as it has them.
          known: {path: mask} where only some entries of an array came from the checkpoint.
        """
        return {}

    def corrupt(self, batch: Arrays, keys: Keys) -> dict[str, Any]:
        """The batch with inputs corrupted and targets added."""
        raise NotImplementedError

    def weight(self, batch: Arrays) -> Scalar:
        """The loss's denominator, from the corrupted global batch alone."""
        raise NotImplementedError

    def logits(self, head: Head, outputs: Arrays, batch: Arrays) -> Float[Array, "..."]:
        """Head applied where there are targets."""
        raise NotImplementedError

    def loss(self, logits: Float[Array, "..."], batch: Arrays) -> Scalar:
        """The loss's numerator."""
        raise NotImplementedError

    def metrics(self, logits: Float[Array, "..."], batch: Arrays) -> dict[str, Pair]:
        """{name: (sum, weight)}."""
        raise NotImplementedError

    def measure(self, head: Head, outputs: Arrays, batch: Arrays) -> tuple[Scalar, dict[str, Pair]]:
        """(loss numerator, metrics) of the trunk's outputs, see `loss` and `metrics`."""
        logits = self.logits(head, outputs, batch)
        return self.loss(logits, batch), self.metrics(logits, batch)

    def predictions(self, logits: Float[Array, "..."], batch: Arrays) -> dict[str, Array]:
        """What is predicted of each example, small arrays {key: [B, …]}; labels may be missing.

        Raises:
          ConfigError: the objective predicts nothing.
        """
        raise ConfigError(
            f"objective {self.name!r} predicts nothing: it is there to learn from, not to use"
        )

    def describe(self, row: Arrays, names: Sequence[str] = ()) -> dict[str, Any]:
        """One example's prediction as JSON values, with its `label` where that is known.

        Args:
          row: its entries of `predictions`, numpy arrays.
          names: of the answers or classes, by number; empty where they have none.
        """
        raise NotImplementedError

    def pair_scores(self, logits: Float[Array, "N outputs"]) -> Float[Array, " N"]:
        """How well the text and image of each pair fit: SCORE_PAIRS."""
        raise NotImplementedError

    def pair_matches(self, logits: Float[Array, "N outputs"]) -> Bool[Array, " N"]:
        """Whether each pair belongs together: JUDGE_PAIRS."""
        raise NotImplementedError


def able(objectives: Sequence[Objective], ability: Ability, stream: str) -> list[Objective]:
    """Those of a stream's objectives that can be asked for something.

    Args:
      objectives: of the stream.
      ability: what is asked.
      stream: its name.

    Raises:
      ConfigError: none can.
    """
    found = [objective for objective in objectives if ability in objective.abilities]
    if not found:
        raise ConfigError(
            f"none of a stream's objectives {ability.value}",
            where=f"config.streams.{stream}.objectives",
            found=", ".join(objective.name for objective in objectives) or "none at all",
        )
    return found
