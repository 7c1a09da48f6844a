"""Checks of numbers: text that YAML 1.1 or pydantic would silently read as another number.

The text of a file is checked when the file is read, the values when the scenario is checked.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from emulator.core.errors import shown

DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

MOST_CHARACTERS = 60
"""Most characters of a number; a longer text is a mistake."""

MOST_DB = 1000.0
"""Largest magnitude in decibels: a float holds the ratio 10^(dB/10) and products of a few ratios."""

MOST = 1e30
"""Largest magnitude of all other numbers: a float holds products of a few of them."""

LEAST_HZ = 1e-30
"""Least frequency of a band or a carrier, in its unit: a float holds the inverse."""

MOST_WHOLE = 2**63 - 1
"""Largest whole number: 64 bits hold it."""


def is_plain_int(text: str) -> bool:
    """Whether a text is a whole number that every parser reads as the same value."""
    plain = DECIMAL.fullmatch(text) or HEXADECIMAL.fullmatch(text)
    return plain is not None and len(text) <= MOST_CHARACTERS


def is_plain_float(text: str) -> bool:
    """Whether a text is a number with a fraction or exponent, or YAML's infinity or NaN."""
    plain = FLOAT.fullmatch(text) or ENDLESS.fullmatch(text)
    return plain is not None and len(text) <= MOST_CHARACTERS


def find_misread(value: Any, raw: Any, where: str = "") -> Iterator[str]:
    """Numbers of a checked section that are not written as numbers in the file; one line each.

    value: a section, list or number. raw: the plain value of the file at the same place.
    """
    for key, inner in _list_parts(value):
        if isinstance(raw, Mapping) and key in raw:
            yield from find_misread(inner, raw[key], f"{where}.{key}" if where else key)
        elif isinstance(raw, Sequence) and not isinstance(raw, str) and int(key) < len(raw):
            yield from find_misread(inner, raw[int(key)], f"{where}.{key}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(raw, bool):
        yield f"{where}: got {str(raw).lower()}, wanted a number"
    elif isinstance(raw, str) and not FLOAT.fullmatch(raw.strip()):
        yield f"{where}: got {raw!r}, wanted a number in plain decimal digits"
    elif isinstance(raw, str) and isinstance(value, int) and not DECIMAL.fullmatch(raw.strip()):
        yield f"{where}: got {raw!r}, wanted a whole number in plain decimal digits"


def find_out_of_bounds(section: Any, where: str = "") -> Iterator[str]:
    """Numbers that are too large or too small for calculations with floats; one line each.

    The bounds are MOST_DB for decibels, MOST_WHOLE for whole numbers and MOST for all others.
    """
    for key, value in _list_parts(section):
        name = f"{where}.{key}" if where else key
        if isinstance(value, bool):
            continue
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            yield f"{name}: got {shown(value)}, wanted a whole number of at most {MOST_WHOLE}"
        elif isinstance(value, float):
            yield from _check_float(value, name)
        else:
            yield from find_out_of_bounds(value, name)


def _check_float(value: float, name: str) -> Iterator[str]:
    last = next(key for key in reversed(name.split(".")) if not key.isdigit())
    if last.endswith(("_db", "_dbm", "_dbi")):
        if not abs(value) <= MOST_DB:
            yield f"{name}: got {value:g}, wanted a number of dB from {-MOST_DB:g} to {MOST_DB:g}"
    elif not math.isfinite(value):
        yield f"{name}: got {value:g}, wanted a finite number"
    elif last.endswith("hz") and 0.0 < value < LEAST_HZ:
        yield f"{name}: got {value:g}, wanted at least {LEAST_HZ:g}"
    elif abs(value) > MOST:
        yield f"{name}: got {value:g}, wanted a magnitude of at most {MOST:g}"


def _list_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a section, mapping or list, by key."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield name, getattr(value, name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            yield str(index), inner
