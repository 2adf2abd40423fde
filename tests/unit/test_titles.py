"""Titles found as people type them, and made fit for a terminal."""

from __future__ import annotations

import pytest

from benchmarks.titles import FOUND, Titles, printable

TITLES = [
    "Toy Story (1995)",
    "Toy Story 2 (1999)",
    "Forrest Gump (1994)",
    "Into the Forest (2015)",
    "Finding Forrester (2000)",
    "Godfather, The (1972)",
    "Godfather: Part II, The (1974)",
    "Godfather: Part III, The (1990)",
    "Star Wars: Episode IV - A New Hope (1977)",
    "Star Wars: Episode V - The Empire Strikes Back (1980)",
    "Seven (a.k.a. Se7en) (1995)",
    "Seven Samurai (Shichinin no samurai) (1954)",
    "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)",
    "Sabrina (1954)",
    "Sabrina (1995)",
    "1984 (Nineteen Eighty-Four) (1984)",
    "Runaway (1984)",
    "Schindler's List (1993)",
    "WALL·E (2008)",
    "Shawshank Redemption, The (1994)",
    "Matrix, The (1999)",
    "Matrix Reloaded, The (2003)",
    "2001: A Space Odyssey (1968)",
]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("forrest gump", "Forrest Gump (1994)"),
        ("FORREST GUMP (1994)", "Forrest Gump (1994)"),
        ("gump forrest", "Forrest Gump (1994)"),
        ("forest gump", "Forrest Gump (1994)"),  # though "forest" is a word of another title
        ("forrestgump", "Forrest Gump (1994)"),
        ("forrest gump 1994", "Forrest Gump (1994)"),
        ("godfather", "Godfather, The (1972)"),
        ("The Godfather", "Godfather, The (1972)"),
        ("godfather 2", "Godfather: Part II, The (1974)"),
        ("the godfather part iii", "Godfather: Part III, The (1990)"),
        ("godfather 1974", "Godfather: Part II, The (1974)"),
        ("a new hope", "Star Wars: Episode IV - A New Hope (1977)"),
        ("empire stikes back", "Star Wars: Episode V - The Empire Strikes Back (1980)"),
        ("seven", "Seven (a.k.a. Se7en) (1995)"),
        ("se7en", "Seven (a.k.a. Se7en) (1995)"),
        ("shichinin no samurai", "Seven Samurai (Shichinin no samurai) (1954)"),
        ("amélie", "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)"),
        ("amelie poulain", "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)"),
        ("sabrina 1995", "Sabrina (1995)"),
        ("1984", "1984 (Nineteen Eighty-Four) (1984)"),
        ("schindlers list", "Schindler's List (1993)"),
        ("wall-e", "WALL·E (2008)"),
        ("shawshenk redemtion", "Shawshank Redemption, The (1994)"),
        ("matrix", "Matrix, The (1999)"),
        ("space odyssey 2001", "2001: A Space Odyssey (1968)"),
    ],
)
def test_the_title_meant_is_the_best(query: str, title: str) -> None:
    best = Titles(TITLES).best(query, 3)
    assert TITLES[best[0].place] == title
    assert best[0].likeness >= (0.5 if "forest" in query else FOUND)


def test_titles_alike_are_alike() -> None:
    titles = Titles(TITLES)
    first, second, *_ = titles.best("sabrina", 5)
    assert first.likeness == second.likeness == 1
    first, second, *_ = titles.best("star wars", 5)
    assert first.likeness == second.likeness < 1


@pytest.mark.parametrize("query", ["", "   ", "?!", "xyzzy", "7"])
def test_what_shares_no_word_is_not_found(query: str) -> None:
    assert Titles(TITLES).best(query, 3) == []


def test_a_year_alone_finds_no_film_of_that_year() -> None:
    assert [TITLES[match.place] for match in Titles(TITLES).best("1984", 5)] == ["1984 (Nineteen Eighty-Four) (1984)"]


def test_no_titles() -> None:
    assert Titles([]).best("anything", 3) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Amélie 天使 🎬", "Amélie 天使 🎬"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b2J", "\\x9b2J"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_nothing_printable_controls_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
