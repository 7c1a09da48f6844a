"""Parquet files as tables, checked column by column. Every Parquet file is read here."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emulator.core.errors import ScenarioError
from emulator.core.places import is_file

_ARROW = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}


def column_types(kind: type) -> dict[str, pa.DataType]:
    """Name and Arrow type of each column of a file whose rows are the dataclass `kind`."""
    return {field.name: _ARROW[_type_name(field.type)] for field in fields(kind)}


def read_columns(path: Path, kind: type, wanted: str) -> pa.Table:
    """Read the columns of a file whose rows are the dataclass `kind`; check their types and for gaps.

    Columns of fields with a default may be missing; columns that are not fields are ignored. wanted:
    what the file should be, e.g. "ledger". The file is read without further threads, so that the
    process may fork later. Raises ScenarioError, which names the file and the column.
    """
    types = column_types(kind)
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not is_file(path):
        raise ScenarioError([f"{path}: no such file, wanted the {wanted} of a run"])
    try:
        table = pq.read_table(path, use_threads=False, partitioning=None)
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ScenarioError([f"{path}: got no Parquet ({reason}), wanted a {wanted}"]) from None
    if missing := needed - set(table.column_names):
        raise ScenarioError([f"{path}: got no {', '.join(sorted(missing))}, wanted a {wanted}"])
    columns = [name for name in table.column_names if name in types]
    for name in columns:
        found = table.schema.field(name).type
        if found != types[name] or table[name].null_count:
            raise ScenarioError(
                [f"{path}: {name}: got {found} or gaps, wanted {types[name]} without any"]
            )
    return table.select(columns)


def _type_name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else annotation.__name__
