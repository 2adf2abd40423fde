"""Titles found as people type them, whatever the case, accents, order of words, year or typos; and fit to print."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from math import log

FOUND = 0.6
"""From this likeness on a title counts as meant; below it is only offered."""
CLOSE = 0.08
"""Titles whose likeness is so near the best one's are about as likely meant."""

_SAME_WORD = 0.8
"""From this ``SequenceMatcher`` ratio on, a word may be another one with a typo."""
_SHORTEST_TYPO = 4
"""In shorter words every letter counts."""
_NUMBER = 2
"""What a number weighs, times its weight as a word: it tells sequels apart."""
_OTHER_WORD = 0.5
"""What a typo counts for where the word as typed is one of its own."""
_PART = 0.9
"""What a part of a title counts for, such as what stands before the colon."""
_END_YEAR = re.compile(r"\((\d{4})\)\s*$")
_IN_BRACKETS = re.compile(r"\(([^()]*)\)")
_ARTICLES = frozenset(("the", "a", "an"))
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}


@dataclass(frozen=True)
class Match:
    """A title by its place, and how like the query it is: 1 where all words are the same."""

    place: int
    likeness: float


@dataclass(frozen=True)
class _Name:
    """One way to call a title: ``"Seven (a.k.a. Se7en) (1995)"`` has three, of which two are half of it."""

    place: int
    words: tuple[str, ...]
    factor: float


class Titles:
    """Titles by their words, with the other names that stand in brackets and the parts around a colon or a dash.

    The likeness of a query and a name is Dice's coefficient: twice the weight of the words that both have, over the
    weight of all words of both. A word weighs the more the fewer titles have it. Typos count by ``difflib``'s ratio;
    numbers, Roman or not, must be the same. The year at the end of a title counts where the query has it.
    """

    def __init__(self, titles: Iterable[str]) -> None:
        self._names: list[_Name] = []
        self._years: list[str] = []
        for place, title in enumerate(titles):
            year = _END_YEAR.search(title)
            self._years.append(year[1] if year else "")
            self._names += [_Name(place, *each) for each in _names(title[: year.start()] if year else title)]
        self._count: Counter[str] = Counter()
        for words in _by_title(self._names).values():
            self._count.update(words)
        self._year_count = Counter(self._years)
        self._holders: dict[str, list[_Name]] = defaultdict(list)
        self._joined: dict[str, list[_Name]] = defaultdict(list)
        for name in self._names:
            for word in name.words:
                self._holders[word].append(name)
            self._joined["".join(name.words)].append(name)

    def best(self, query: str, k: int) -> list[Match]:
        """The k titles most like ``query``, best first, ties in their own order; none that shares no word."""
        words = _words(query)
        likeness: dict[int, float] = defaultdict(float)
        for name in self._joined["".join(words)] if words else ():  # "starwars"
            likeness[name.place] = max(likeness[name.place], name.factor)
        shared: dict[_Name, dict[str, float]] = defaultdict(dict)
        asked = 0.0
        for word in words:
            alike = self._alike(word)
            asked += max(alike.values(), default=self._weight(word))
            for known, weight in alike.items():
                for name in self._holders[known]:
                    shared[name][word] = max(shared[name].get(word, 0.0), weight)
        for name, common in shared.items():
            found = name.factor * self._dice(name, common, words, asked)
            likeness[name.place] = max(likeness[name.place], found)
        matches = [Match(place, value) for place, value in likeness.items()]
        return sorted(matches, key=lambda match: (-match.likeness, match.place))[:k]

    def _dice(self, name: _Name, common: dict[str, float], words: tuple[str, ...], asked: float) -> float:
        both = sum(common.values())
        own = sum(map(self._weight, name.words))
        year = self._years[name.place]
        if year in words and year not in name.words:
            both, own = both + self._weight(year), own + self._weight(year)
        return min(1.0, 2 * both / (asked + own))

    def _weight(self, word: str) -> float:
        """log(1 + titles / titles with the word); an unknown one counts as a year, or as the rarest."""
        times = _NUMBER if word.isdigit() else 1
        return times * log(1 + len(self._years) / max(1, self._count[word] or self._year_count[word]))

    def _alike(self, word: str) -> dict[str, float]:
        """Known words that this one may be, and what each of them counts."""
        known = word in self._holders
        found = {word: self._weight(word)} if known else {}
        if len(word) < _SHORTEST_TYPO or any(map(str.isdigit, word)):
            return found
        matcher = SequenceMatcher(b=word, autojunk=False)
        for other in self._holders:
            if other == word or len(other) < _SHORTEST_TYPO:
                continue
            if 2 * min(len(word), len(other)) < _SAME_WORD * (len(word) + len(other)):
                continue  # of such lengths no ratio is high enough
            matcher.set_seq1(other)
            if matcher.quick_ratio() >= _SAME_WORD and (ratio := matcher.ratio()) >= _SAME_WORD:
                weight = self._weight(other)
                found[other] = ratio * (_OTHER_WORD * min(weight, self._weight(word)) if known else weight)
        return found


def _by_title(names: Iterable[_Name]) -> dict[int, set[str]]:
    words: dict[int, set[str]] = defaultdict(set)
    for name in names:
        words[name.place].update(name.words)
    return words


def _names(title: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Words of a title without its year: whole, without brackets, each bracket, parts around a colon or a dash."""
    main = _IN_BRACKETS.sub(" ", title)
    whole = {_words(title): 1.0, _words(main): 1.0}
    for alias in _IN_BRACKETS.findall(title):
        whole[_words(alias.removeprefix("a.k.a. "))] = 1.0
    parts = {_words(part): _PART for part in re.split(r":| - ", main)}
    yield from ((words, factor) for words, factor in {**parts, **whole}.items() if words)


def _words(text: str) -> tuple[str, ...]:
    """``"Godfather: Part II, The"`` -> ``("godfather", "part", "2")``: distinct, without accents and articles."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(char for char in decomposed if not unicodedata.combining(char) and char not in "'’`")
    words = dict.fromkeys(_ROMAN.get(word, word) for word in re.findall(r"[^\W_]+", plain))
    return tuple(word for word in words if word not in _ARTICLES) or tuple(words)


_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """``text`` with escapes such as ``\\x1b`` for what would control a terminal or turn the order of its letters."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _DIRECTIONS
        else char
        for char in text
    )
