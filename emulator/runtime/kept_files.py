"""What stays in a folder that is replaced, and where a result is kept that cannot be put where it was promised."""

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
"""Names that a note has room for; the rest is counted."""


def is_written(path: str) -> bool:
    """Whether runs, or figures of a channel, write a file of this path in their folder."""
    return _WRITTEN.fullmatch(path) is not None


def format_names(names: Iterable[str]) -> str:
    """Names in order, the first of them where they are many."""
    first = sorted(names)
    more = f" and {len(first) - MOST_LISTED} more" if len(first) > MOST_LISTED else ""
    return ", ".join(first[:MOST_LISTED]) + more


def write_elsewhere(place: Path, files: Mapping[str, bytes]) -> str:
    """Write files beside a folder, or wherever they can be written; says where, or that nowhere."""
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
    """Where a result may be kept that cannot be put in its place: beside it, else elsewhere."""
    parents = [place.parent]
    with suppress(OSError):
        parents.append(Path(tempfile.gettempdir()))
    with suppress(OSError):
        parents.append(Path.cwd())
    return list(dict.fromkeys(parents))


def _write_beside(parent: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """A new folder under a parent, with all files in it; OSError, and no folder, where that fails."""
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
