"""Which files of a folder a run may replace, and where a result is kept if its folder cannot be written."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

_WRITTEN = re.compile(
    r"scenario\.yaml|(environment|summary|topology)\.json|(ledger|metrics)\.parquet"
    r"|(adapters|experts)/device-\d+/([^/]+/)?"
    r"(adapter_config\.json|adapter_model\.safetensors|config\.json|experts\.json|(model|router)\.safetensors)"
    r"|(cast_airtime|mask_bits|path_loss|rate_cdf|spectral_efficiency)\.(csv|html)|plotly\.min\.js"
)

MOST_LISTED = 10
"""The most names that a note lists; it gives the number of the others."""


def is_written(path: str) -> bool:
    """Whether a run, or the figures of a channel, write a file of this path into their folder."""
    return _WRITTEN.fullmatch(path) is not None


def format_names(names: Iterable[str]) -> str:
    """Format names in order, at most MOST_LISTED of them and the number of the others."""
    first = sorted(names)
    more = f" and {len(first) - MOST_LISTED} more" if len(first) > MOST_LISTED else ""
    return ", ".join(first[:MOST_LISTED]) + more


def write_elsewhere(place: Path, files: Mapping[str, bytes]) -> str:
    """Write files beside a folder, or elsewhere; return a text that names the place, or that none works."""
    tried = []
    for parent in _list_other_parents(place):
        tried.append(str(parent))
        with suppress(OSError):
            return f"the result is kept in {_write_beside(parent, place.name, files)}"
    return f"nor can the result be kept in {', '.join(tried)}: it is lost"


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files: path in the folder -> bytes."""
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _list_other_parents(place: Path) -> list[Path]:
    """List folders for a result whose own folder cannot be written: first the one beside it."""
    parents = [place.parent]
    with suppress(OSError):
        parents.append(Path(tempfile.gettempdir()))
    with suppress(OSError):
        parents.append(Path.cwd())
    return list(dict.fromkeys(parents))


def _write_beside(parent: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write all files into a new folder under a parent; raises OSError and leaves no folder on failure."""
    for number in count(1):
        kept = parent / f"{name[:50] or 'run'}.kept-{number}"
        with suppress(FileExistsError):
            kept.mkdir()
            break
    try:
        write_files(kept, files)
    except OSError:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    return kept
