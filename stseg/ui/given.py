"""What programs give for a parameter: JSON lets anything through, and a mistake gets a sentence."""

from __future__ import annotations

import reprlib
from typing import NoReturn, TypeGuard

from stseg.errors import InputError

MOST = 10**9
"""No sensible number is larger; what is (or is no number at all) must not get far."""


def whole(name: str, value: object, example: int) -> int:
    """A whole number; 4.0 is one, too.

    Args:
        name: of the parameter, for the sentence.
        value: as the client gave it.
        example: what would do, for the sentence.

    Raises:
        InputError: it is something else.
    """
    if _is_whole(value):
        return int(value)
    _refuse(name, value, "a whole number", example)


def whole_or_none(name: str, value: object, example: int) -> int | None:
    """``whole``, where None and 0 are both a way to say nothing."""
    return None if value is None else whole(name, value, example) or None


def wholes(name: str, value: object, example: int) -> list[int]:
    """Whole numbers: a list of them, one alone, or nothing. Raises as ``whole`` does."""
    each = [] if value is None else [*value] if isinstance(value, list | tuple) else [value]
    if not all(_is_whole(one) for one in each):
        value = next(filter(_too_far, each), value)
        _refuse(name, value, "a list of whole numbers", [example])
    return [whole(name, one, example) for one in each]


def number(name: str, value: object, example: float) -> float:
    """A number. Raises as ``whole`` does."""
    if _is_number(value):
        return float(value)
    _refuse(name, value, "a number", example)


def truth(name: str, value: object, otherwise: bool) -> bool:
    """True or false, or nothing, which is ``otherwise``. Raises as ``whole`` does."""
    if value is None:
        return otherwise
    if isinstance(value, bool):
        return value
    _refuse(name, value, "true or false", otherwise)


def names(name: str, value: object, *examples: str) -> list[str]:
    """Names: a list of them, words in one text, or nothing. Raises as ``whole`` does."""
    each = [] if value is None else value.split() if isinstance(value, str) else value
    if not isinstance(each, list) or not all(isinstance(one, str) for one in each):
        _refuse(name, value, "a list of names", list(examples))
    return list(each)


def _is_number(value: object) -> TypeGuard[int | float]:
    """Neither a truth value nor NaN, which is not smaller than anything."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def _is_whole(value: object) -> TypeGuard[int | float]:
    return _is_number(value) and value == int(value)


def _too_far(value: object) -> TypeGuard[int | float]:
    """A number, but beyond every sensible one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > MOST


def _refuse(name: str, value: object, what: str, example: object) -> NoReturn:
    told = reprlib.repr(value)  # somebody may have given a book
    if _too_far(value):
        far = "large" if value > 0 else "small"
        raise InputError(
            f"{name} is {told}, which is too {far}. Give {what}, for instance {example}."
        )
    raise InputError(f"{name} is {told}, but it is {what}, for instance {example}.")
