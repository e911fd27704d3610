"""A trained model with all that it can be asked: `inference.load` opens one."""

from inference.verbs.matching import Matching
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
