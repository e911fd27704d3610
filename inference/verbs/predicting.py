"""What --mode=predict predicts: answers, choices, regions, classes."""

from collections.abc import Callable
from typing import Any

from core.errors import DataError
from evaluation import predict
from inference import questions
from inference.asking import Asker
from inference.items import Asked
from inference.layout import Batch
from inference.programs import Program
from inference.results import Answer, Choice, Class, Region
from inference.verbs.options import top
from input_pipeline.datasets.records import mentions
from input_pipeline.texts.rows import Row
from objectives import base


class Predicting(Asker):
    """Verbs of objectives that predict, by the functions of --mode=predict."""

    def predicting(self, stream: str) -> Program:
        """What the first objective of a stream predicts."""
        model = self.checkpoint.model
        objective = model.streams[stream][0]

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            return objective.predictions(*predict.logits_of(model, params, stream, batch))

        return Program(("predict", stream), self.layout(stream), step)

    def answering(self, stream: str, objective: base.Objective) -> Program:
        """All answers to a question, the best one first."""
        model, count = self.checkpoint.model, len(objective.output_names)

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            logits, _ = predict.logits_of(model, params, stream, batch)
            return objective.ranked(logits, count)

        return Program(("answer", stream), self.layout(stream), step)

    def answer(self, question: Any, image: Any, top_k: int = 5, *, task: str = "") -> Any:
        """Answers to a question, from the model's list.

        Args:
          question: or a list.
          image: or a list.
          top_k: answers that are told.
          task: see the class.

        Returns:
          Answer, or a list.
        """
        stream, objective = self._task("answer", task)
        names = objective.output_names
        kept = top(top_k, len(names))
        asked = self._asked(stream, question, image, questions.question)

        results = []
        for told in self._programs.run(self.answering(stream, objective), asked):
            best = {key: array[:kept] for key, array in told.row.items()}
            row = objective.describe(best, names)
            ranked = tuple((name, share) for name, share in row["top"])
            results.append(
                Answer(told.value, row["answer"], row["probability"], ranked, images=told.images)
            )
        return asked.given(results)

    def answered(self, stream: str) -> bool:
        """Whether rationales of an answered question are chosen, and not answers."""
        return self.checkpoint.config.streams[stream].data.get("records") == "rationales"

    def choice_rows(self, stream: str, objective: base.Objective) -> Callable[..., tuple[Row, ...]]:
        """rows(question, choices, objects, answer, key) → rows of a table, see `choose`."""
        answered = self.answered(stream)
        joined_by = mentions.joined_by(self.checkpoint.config.streams[stream].data)

        def rows(asked: Any, texts: Any, found: Any, given: Any, name: Any) -> tuple[Row, ...]:
            if answered != (given is not None):
                raise DataError(
                    "this model chooses rationales of an answered question"
                    if answered
                    else "this model chooses answers, not rationales",
                    expected="answer=<the answer>" if answered else "answer=None",
                    found=repr(given),
                )
            if not isinstance(texts, list | tuple) or len(texts) != objective.choices:
                raise DataError(
                    "a question has another number of choices than the model was trained with",
                    expected=objective.choices,
                    found=len(texts) if isinstance(texts, list | tuple) else repr(texts),
                )
            return questions.choice(
                asked, texts, objects=found, answer=given, key=name or "", joined_by=joined_by
            )

        return rows

    def choose(
        self,
        question: Any,
        choices: Any,
        image: Any,
        *,
        objects: Any = (),
        answer: Any = None,
        key: Any = "",
        task: str = "",
    ) -> Any:
        """Which of several answers, or rationales of an answered question, fits.

        Texts may mention objects by number: "Is [0] looking at [1] ?", or as a tuple of words and
        of lists of numbers, ("Is", [0], "looking", "at", [1], "?").

        Args:
          question: or a list.
          choices: as many texts as the model was trained with; or a list of those.
          image: or a list.
          objects: (name, box) of what texts mention, xyxy in pixels of the image; or a list of
            those.
          answer: to the question, where rationales are to be chosen; or a list.
          key: from which the names of persons follow, as of an example's id; or a list.
          task: see the class.

        Returns:
          Choice, or a list.
        """
        stream, objective = self._task("choose", task)
        rows = self.choice_rows(stream, objective)
        asked = self._asked(stream, question, image, rows, choices, objects, answer, key)
        results = []
        for told, example in zip(
            self._programs.run(self.predicting(stream), asked), asked.examples, strict=True
        ):
            row = objective.describe(told.row)
            first, *others = (one.text for one in example.rows)
            results.append(
                Choice(
                    first, tuple(others), row["choice"], tuple(row["probabilities"]),
                    tuple(row["logits"]), images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)

    def ground(self, expression: Any, image: Any, *, candidates: Any = None, task: str = "") -> Any:
        """The region that an expression means.

        Args:
          expression: or a list.
          image: or a list.
          candidates: boxes to choose from, xyxy in pixels of the image, each of which a region of
            it shows; or a list of those. None: all regions. The whole image always is one.
          task: see the class.

        Returns:
          Region, or a list.
        """
        stream, objective = self._task("ground", task)
        asked = self._asked(stream, expression, image, questions.expression, candidates)
        return self._located(asked, stream, objective)

    def point(self, text: Any, boxes: Any, image: Any, *, task: str = "") -> Any:
        """Which of some boxes a text means, such as the answer to a question.

        Args:
          text: or a list.
          boxes: xyxy in pixels of the image, each of which a region of it shows; or a list of
            those.
          image: or a list.
          task: see the class.

        Returns:
          Region, or a list.
        """
        stream, objective = self._task("point", task)
        asked = self._asked(stream, text, image, questions.pointing, boxes)
        return self._located(asked, stream, objective)

    def _located(self, asked: Asked, stream: str, objective: base.Objective) -> Any:
        results = []
        for told in self._programs.run(self.predicting(stream), asked):
            row = objective.describe(told.row)
            box = predict.in_original(
                row["box"],
                told.batch["image_size"][0],
                told.images[0].height,
                told.images[0].width,
            )
            results.append(
                Region(
                    told.value, row["region"], tuple(box), row["score"], row.get("option"),
                    images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)

    def classify(self, text: Any, images: Any, *, task: str = "") -> Any:
        """The class of a text and its image, or its images.

        Args:
          text: or a list.
          images: an image, where the model reads one with a text, else a list of images; or a list
            of those.
          task: see the class.

        Returns:
          Class, or a list.
        """
        stream, objective = self._task("classify", task)
        count = 1 + max(image for _, image in self.checkpoint.model.pairs[stream])
        asked = self._asked(
            stream, text, images, lambda one: questions.statement(one, count), per_text=count
        )
        results = []
        for told in self._programs.run(self.predicting(stream), asked):
            row = objective.describe(told.row, objective.output_names)
            shares = tuple(row["probabilities"])
            names = objective.output_names or tuple(map(str, range(len(shares))))
            results.append(
                Class(
                    told.value, row["class"], names[row["class"]], names, shares,
                    row.get("activation") != "sigmoid", images=told.images,
                )
            )  # fmt: skip
        return asked.given(results)
