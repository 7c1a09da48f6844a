"""Numbers in answers."""

import re

ONE_NUMBER = re.compile(r"-?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?")
"""An answer that is a number and nothing else; 1,2,3 is a list."""

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> str:
    """The last number of a text, without thousands separators and closing zeros after the point.

    Empty when there is none; so 1,050, 1050 and 1050.0 are one answer.
    """
    found = NUMBER.findall(text)
    if not found:
        return ""
    whole, _, decimals = found[-1].replace(",", "").partition(".")
    return f"{whole}.{decimals}".rstrip("0").rstrip(".") if decimals else whole
