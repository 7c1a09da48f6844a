"""Numbers in answers."""

import re

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> str:
    """The last number of a text without thousands separators; empty when there is none."""
    found = NUMBER.findall(text)
    return found[-1].replace(",", "") if found else ""
