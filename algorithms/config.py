"""Hyper-parameters: an adapter declares them once, in its ``Config``; everything else is read from there.

A ``Config`` is a frozen dataclass whose fields are ``name: Annotated[type, "meaning in one line"] = default``. Types
are ``bool``, ``int``, ``float``, ``str``, ``Literal[...]``, any of them ``| None``, and ``tuple[int, ...]``, on the
command line ``64-32-16``; an ``AtLeast`` beside the meaning bounds a number, or each number of a tuple.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from datasets.errors import UserError, unknown_name


@dataclass(frozen=True)
class AtLeast:
    """The smallest value of a number that makes sense, such as one factor."""

    low: float


# Options of every adapter that trains a network; each adapter has its own default.
Epochs = Annotated[int, "most passes over the training rows", AtLeast(1)]
Patience = Annotated[
    int, "epochs without a better validation figure before training stops; 0: always all epochs", AtLeast(0)
]
Negatives = Annotated[int, "unrated items drawn for each training row, when ranking", AtLeast(1)]


class Option(NamedTuple):
    """One hyper-parameter as ``list NAME`` shows it."""

    name: str
    type: str
    default: object
    meaning: str


def resolve_config(config_class: type, overrides: Mapping[str, object], name: str | None = None) -> Any:
    """The config with ``overrides`` cast through the types of its fields: 500, 500.0 and "500" give equal configs.

    Args:
        config_class: the ``Config`` of an adapter.
        overrides: option name -> value, as Python values or as text from the command line.
        name: the algorithm, for messages.

    Raises:
        UserError: for an unknown option or a value that is not of its option's type or below its bound.
    """
    algorithm = name or config_class.__qualname__
    hints = get_type_hints(config_class, include_extras=True)
    values = {}
    for option, value in overrides.items():
        if option not in hints:
            raise unknown_name(f"option of {algorithm}", option, hints)
        try:
            values[option] = _cast_and_check(value, hints[option])
        except ValueError as problem:
            raise UserError(f"{algorithm}.{option} must be {problem}, got {value!r:.80}") from None
    return config_class(**values)


def shown(value: object) -> str:
    """An option's value as the command line takes it."""
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def describe(config_class: type) -> list[Option]:
    """Every option of a config: name, type, default and meaning.

    Raises:
        TypeError: when a field is not declared as ``Annotated[type, "meaning"] = default``.
    """
    hints = get_type_hints(config_class, include_extras=True)
    options = []
    for field in fields(config_class):
        hint = hints[field.name]
        meaning = next((extra for extra in get_args(hint)[1:] if isinstance(extra, str)), None)
        if get_origin(hint) is not Annotated or not meaning:
            raise TypeError(f'{config_class.__qualname__}.{field.name} needs Annotated[type, "meaning"] = default')
        options.append(Option(field.name, _type_name(get_args(hint)[0]), field.default, meaning))
    return options


def _cast_and_check(value: object, hint: Any) -> object:
    declared, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    result = _cast(value, declared)
    numbers = result if isinstance(result, tuple) else [result]
    for bound in extras:
        if isinstance(bound, AtLeast) and any(isinstance(each, int | float) and each < bound.low for each in numbers):
            raise ValueError(f"at least {bound.low:g}")
    return result


def _cast(value: object, declared: Any) -> object:
    """``value`` as ``declared``; a ValueError says what is required."""
    if get_origin(declared) in (Union, UnionType):
        return _cast_optional(value, declared)
    if get_origin(declared) is Literal:
        return _cast_literal(value, declared)
    if get_origin(declared) is tuple:
        return _cast_tuple(value, declared)
    if declared is bool:
        return _cast_bool(value)
    if declared in (int, float):
        return _cast_number(value, declared)
    if declared is str and isinstance(value, str):
        return value
    raise ValueError(_type_name(declared))


def _cast_optional(value: object, declared: Any) -> object:
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return None
    inner = next(kind for kind in get_args(declared) if kind is not NoneType)
    try:
        return _cast(value, inner)
    except ValueError as problem:
        raise ValueError(f"{problem} or none") from None


def _cast_literal(value: object, declared: Any) -> object:
    for choice in get_args(declared):
        if str(choice) == str(value):
            return choice
    raise ValueError(_type_name(declared))


def _cast_tuple(value: object, declared: Any) -> tuple[object, ...]:
    """``"64-32-16"``, a list (as a record or a TOML file has it), a tuple, or a single number."""
    kind = get_args(declared)[0]
    parts = value.split("-") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(_cast(part, kind) for part in parts)
    except ValueError as problem:
        raise ValueError(f"{problem}, or several joined by '-' such as 64-32-16") from None


def _cast_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("true or false")


def _cast_number(value: object, declared: type) -> int | float:
    required = "a whole number" if declared is int else "a finite number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(required)
    try:
        number = value if isinstance(value, int) else float(value)
        finite = math.isfinite(number)
    except (ValueError, OverflowError):  # a whole number of hundreds of digits is beyond floats
        raise ValueError(required) from None
    if not finite or (declared is int and number != int(number)):
        raise ValueError(required)
    return int(number) if declared is int else float(number)


def _type_name(declared: Any) -> str:
    if get_origin(declared) in (Union, UnionType):
        return " or ".join(_type_name(kind) for kind in get_args(declared))
    if get_origin(declared) is Literal:
        return " | ".join(str(choice) for choice in get_args(declared))
    if get_origin(declared) is tuple:
        return f"{_type_name(get_args(declared)[0])}-{_type_name(get_args(declared)[0])}-…"
    return "none" if declared is NoneType else str(declared.__name__)
