"""What a prompt looks like, as a small vector of raw named numbers. A changed definition takes a new name."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

SAMPLE = 6000  # characters; a longer text is judged by its first and last 3000, its length apart

_DIGIT, _LOWER, _UPPER, _LATIN, _CYRILLIC, _ARABIC, _CJK, _OPERATOR, _CODE, _QUOTE = range(1, 11)
_RANGES = (
    (_DIGIT, "09"),
    (_LOWER, "az"),
    (_UPPER, "AZ"),
    (_LATIN, "\u00c0\u024f"),
    (_LATIN, "\u1e00\u1eff"),
    (_CYRILLIC, "\u0400\u052f"),
    (_ARABIC, "\u0600\u06ff"),
    (_ARABIC, "\u0750\u077f"),
    (_ARABIC, "\ufb50\ufdff"),
    (_CJK, "\u1100\u11ff"),
    (_CJK, "\u3040\u30ff"),
    (_CJK, "\u3400\u4dbf"),
    (_CJK, "\u4e00\u9fff"),
    (_CJK, "\uac00\ud7af"),
    (_CJK, "\uf900\ufaff"),
    (_OPERATOR, "\u2200\u22ff"),  # the mathematical operators
    *((_OPERATOR, sign) for sign in "+*/=<>^|~\u00b1\u00b7\u00d7\u00f7"),
    *((_CODE, sign) for sign in "{}[];_`#\\@"),
    *((_QUOTE, sign) for sign in '"\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d'),
)

_VOCABULARY = {
    "maths": """
        algebra angle area average calculate compute cos derivative diameter digit digits divide divided
        divisible equal equals equation equations factor factorial fraction geometric graph half hypotenuse
        integer integers integral log logarithm matrix maximum mean median minimum modulo multiply number
        numbers odd percent percentage perimeter polynomial prime probability product quadratic radius ratio
        remainder root sin solve square sum tan theorem total triangle twice vector volume
    """,
    "reasoning": """
        analyse analyze argue argument because cause compare conclude conclusion consider contrast critique
        deduce derive determine evaluate evidence explain explanation hence how hypothesis if imply implies
        infer inference justify logic logical premise proof prove reason reasoning scenario show step steps
        suppose therefore thus why
    """,
    "code": """
        algorithm api array bash bug class code compile css csharp csv data database debug def django docker
        else error exception file function git html http import int java javascript json kotlin linux loop
        method node null object php print program programming public python query react regex return ruby
        rust script server sql static string struct swift typescript var void xml
    """,
    "creative": """
        article blog caption chapter character characters creative dialogue email essay fiction funny haiku
        joke letter limerick lyrics marketing narrative novel paragraph play plot poem poetry roleplay
        romantic rhyme scene screenplay slogan song speech story tagline tale tweet verse
    """,
    "instruction": """
        act add answer assume avoid change choose classify complete convert correct create design describe
        draft edit extract fill find fix format generate give identify improve include list make name only
        outline output paraphrase please provide rank recommend rephrase replace respond rewrite select sort
        suggest summarise summarize tell use write
    """,
    "translation": """
        arabic bengali chinese dutch english french german greek hebrew hindi indonesian italian japanese
        korean language latin mandarin persian polish portuguese russian spanish swedish thai translate
        translated translation turkish ukrainian urdu vietnamese
    """,
    "factual": "what when where which who whom whose",
}
_GROUPS = {word: group for group, words in enumerate(_VOCABULARY.values()) for word in words.split()}

_WORD = re.compile(r"[^\W\d_]+")
_COUNTED = {
    "numbers": re.compile(r"\d+(?:[.,]\d+)*"),
    "latex": re.compile(r"\\(?:[A-Za-z]+|[(\[])"),
    "amounts": re.compile(r"[$\u20ac\u00a3\u00a5\u20b9] ?\d|\d ?(?:%|percent\b|dollars\b|euros\b)"),
    "urls": re.compile(r"https?://|www\."),
    "items": re.compile(r"^[ \t]*(?:[-*\u2022]|\d{1,3}[.)])[ \t]", re.MULTILINE),
    "fences": re.compile("```"),
    "questions": re.compile("[?\uff1f\u061f]"),
}
_CHOICE = re.compile(r"^[ \t]*\(?([A-J])[.):][ \t]", re.MULTILINE)

# log_*: ln(1 + count); log_lines counts line breaks, log_word_length takes the mean over words.
# *_share: of the characters, in [0, 1]. choices: how many of the option letters A to J begin a line.
# asks_answer: 0 or 1, whether the text ends in "Answer:".
NAMES = (
    "log_chars",
    "log_words",
    "log_lines",
    "log_word_length",
    "digit_share",
    "upper_share",
    "latin_share",
    "cyrillic_share",
    "arabic_share",
    "cjk_share",
    "non_ascii_share",
    "operator_share",
    "code_share",
    "quote_share",
    *(f"log_{group}_words" for group in _VOCABULARY),
    *(f"log_{mark}" for mark in _COUNTED),
    "choices",
    "asks_answer",
)


def extract(text: str) -> NDArray[np.float32]:
    """The features of a text in the order of NAMES, (30,), finite for every string."""
    sample = text if len(text) <= SAMPLE else f"{text[: SAMPLE // 2]}\n{text[-SAMPLE // 2 :]}"
    words = sample.split()
    scale = len(text) / max(len(sample), 1)  # a long text's words and lines are estimated from its sample
    word_length = sum(map(len, words)) / max(len(words), 1)
    sizes = [len(text), len(words) * scale, sample.count("\n") * scale, word_length]
    counts = [*_vocabulary_counts(sample), *(len(mark.findall(sample)) for mark in _COUNTED.values())]
    options = len(set(_CHOICE.findall(sample)))
    asks_answer = sample[-20:].rstrip().lower().endswith("answer:")
    return np.array([*np.log1p(sizes), *_shares(sample), *np.log1p(counts), options, asks_answer], np.float32)


def _vocabulary_counts(sample: str) -> list[int]:
    counts = [0] * (len(_VOCABULARY) + 1)  # the last one: words of no group
    for word in _WORD.findall(sample.lower()):
        counts[_GROUPS.get(word, -1)] += 1
    return counts[:-1]


def _shares(sample: str) -> list[float]:
    codes = np.frombuffer(sample.encode("utf-32-le", "surrogatepass"), np.uint32)
    characters = max(len(codes), 1)
    n = np.bincount(_CLASS[np.minimum(codes, 0xFFFF)], minlength=_QUOTE + 1) / characters
    latin = n[_LOWER] + n[_UPPER] + n[_LATIN]
    non_ascii = np.count_nonzero(codes > 127) / characters
    return [n[_DIGIT], n[_UPPER], latin, *n[_CYRILLIC : _CJK + 1], non_ascii, *n[_OPERATOR : _QUOTE + 1]]


def _classes() -> NDArray[np.uint8]:
    """The class of every code point of the basic plane; 0 for none."""
    table = np.zeros(0x10000, np.uint8)
    for kind, span in _RANGES:
        table[ord(span[0]) : ord(span[-1]) + 1] = kind
    return table


_CLASS = _classes()
