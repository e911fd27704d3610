"""A trained model with all that it can be asked: `inference.load` opens one."""

import numpy as np

from inference.layout import Batch
from inference.programs import Program
from inference.verbs.matching import Matching
from inference.verbs.options import top
from inference.verbs.predicting import Predicting
from inference.verbs.showing import Showing


class TaskModel(Predicting, Matching, Showing):
    """A trained model that is asked things; threads may share it.

    A verb takes one text, or a list of texts with a list of images or one image for all, and gives
    one result, or a list. Where one item of a list is wrong, the error names its position and
    nothing is answered. What an image may be: `images.FORMS`, or a picture with an extractor.

    Every verb takes `task`, the stream of the run that is to answer; empty: the only one, or the
    first of several that share their parameters. All raise `core.errors.UserError`: of a wrong text
    or image, and of a model that cannot do what is asked, with what it can.
    """

    def program(
        self, verb: str, task: str = "", *, masks: int = 1, top_k: int = 5
    ) -> tuple[str, Program]:
        """What runs on the device for a verb, and the stream of the run that answers.

        Args:
          verb: one of `abilities`.
          task: see the class.
          masks, top_k: of fill_mask: how many masks a text has at most, and pieces for each.

        Raises:
          ConfigError: the model cannot do it.
        """
        stream, objective = self._task(verb, task)
        if verb == "fill_mask":
            kept = top(top_k, self.checkpoint.tokenizer.vocab_size)
            return stream, self.filling(stream, objective, masks, kept)
        if verb == "embed":
            return stream, self.embedding(stream)
        if verb == "attention":
            return stream, self.attending(stream, hidden=False)
        of_objective = dict(answer=self.answering, align=self.judging, rank=self.scoring)
        if verb in of_objective:
            return stream, of_objective[verb](stream, objective)
        return stream, self.predicting(stream)

    def run(self, program: Program, batch: Batch) -> dict[str, np.ndarray]:
        """What a program gives for a batch of its layout."""
        return self._programs.call(program, batch)
