"""How texts of answers are compared: the text rules of the official VQA evaluation.

Two writings are one answer where `normalize` makes them the same text.
"""

import functools
import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_ARTICLES = ("a", "an", "the")
# What the evaluation takes for a contraction without its apostrophe. Some that one would expect
# are missing (lets, shes, im, ive): the table's entries for them could never apply.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


# With several apostrophes ("couldn't've") the table knows the word without any one of them.
_APOSTROPHES = {
    bare: word for word in _CONTRACTIONS.split() for bare in _without_one_apostrophe(word)
}
_APOSTROPHES["somebody'd"] = "somebodyd"  # as the evaluation has it


@functools.lru_cache(maxsize=2**16)
def clean(answer: str) -> str:
    """An answer without line ends, tabs, and blanks around it."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def without_punctuation(answer: str) -> str:
    """The evaluation's first step, which VL-BERT's answer list is read by: "T-shirt." → "T shirt".

    A punctuation mark goes where it stands beside a space somewhere in the answer, or where the
    answer has a comma between digits; elsewhere a space replaces it. A period goes unless a digit
    follows.
    """
    text, thousands = answer, re.search(r"\d,\d", answer)
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside_space or thousands else " ")
    # 32 at most: the released tools hand re.UNICODE, which is 32, to the argument `count`.
    return re.sub(r"\.(?!\d)", "", text, count=32)


@functools.lru_cache(maxsize=2**16)  # the same answers come again and again
def normalize(answer: str) -> str:
    """An answer as the official evaluation compares it: "Two T-shirts." gives "2 t shirts".

    Without punctuation, in lower case, zero to ten and none as digits, no articles, apostrophes put
    back. Nothing is left of an answer that is only these ("a", "?").
    """
    words = (_NUMBERS.get(word, word) for word in without_punctuation(answer).lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)
