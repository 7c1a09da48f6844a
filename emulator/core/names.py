"""The rule for names that become part of a path: names of scenarios, tasks and rows of experiments.

A name is a single folder or file name on every common file system, and a path made with it never
leaves its folder.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

MOST_BYTES = 100
"""Most bytes of a name in UTF-8. A file name may have 255, and `<name>-<method>-<seed>.partial` is longer."""

SIGNS = " ._+-"
"""The characters that a name may have besides letters and digits."""

NAME = (
    "text of letters, digits, spaces and . _ + -, the first a letter or digit, no space at the end"
)
"""The rule in words."""


def is_name(text: str) -> bool:
    """Whether a text may be a name. Letters, their marks and digits may be of any script."""
    known = all(c in SIGNS or unicodedata.category(c)[0] in "LMN" for c in text)
    begins, ends = text[:1].isalnum(), not text.endswith(" ")
    return known and begins and ends and len(text.encode()) <= MOST_BYTES


def check_name(text: str) -> str:
    """The text itself. Raises ValueError, which states the rule, for a text that is not a name."""
    if is_name(text):
        return text
    size = len(text.encode(errors="replace"))
    got = repr(text) if size <= MOST_BYTES else f"{text[:20]!r}... of {size} bytes"
    raise ValueError(f"got {got}, wanted {NAME}, at most {MOST_BYTES} bytes")


def find_wrong_names(texts: Iterable[str]) -> Iterator[str]:
    """One message for each text that is not a name."""
    for text in texts:
        try:
            check_name(text)
        except ValueError as error:
            yield str(error)


Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": MOST_BYTES, "description": NAME}
    ),
]
"""A field that holds a name."""
