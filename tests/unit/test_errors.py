"""What a message shows of a hostile file cannot move a cursor, colour a terminal or fill it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import LONGEST_MESSAGE, DataError, UserError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ratings.csv:2: \x1b[31mred", r"ratings.csv:2: \x1b[31mred"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\u202eabc", r"\u202eabc"),
        ("\x9b2J", r"\x9b2J"),
        ("Misérables · 冰", "Misérables · 冰"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert str(UserError(text)) == shown


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    assert str(UserError(text)).isprintable()
    if text.isprintable():
        assert str(UserError(text)) == text


def test_a_long_message_is_cut() -> None:
    message = str(DataError.at("a.csv", 3, "\x1b" * 1_000_000))
    assert len(message) == LONGEST_MESSAGE and message.startswith("a.csv:3: ") and message.endswith("…")
