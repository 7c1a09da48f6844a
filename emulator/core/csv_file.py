"""Tables as CSV text."""

import csv
import io
from collections.abc import Iterable, Sequence


def make_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The table as CSV; None becomes an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()
