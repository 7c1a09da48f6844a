"""Finding numbers in the texts of answers."""

import re

ONE_NUMBER = re.compile(r"-?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?")
"""Matches an answer that consists of one number; 1,2,3 is a list."""

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> str:
    """The last number of a text, without thousands separators and trailing zeros after the point.

    1,050, 1050 and 1050.0 are therefore the same answer. Empty if the text has no number.
    """
    found = NUMBER.findall(text)
    if not found:
        return ""
    whole, _, decimals = found[-1].replace(",", "").partition(".")
    return f"{whole}.{decimals}".rstrip("0").rstrip(".") if decimals else whole
