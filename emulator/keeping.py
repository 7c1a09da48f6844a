"""Where a result is kept that cannot be put where it was promised."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path


def kept_elsewhere(place: Path, files: Mapping[str, bytes]) -> str:
    """Write files beside a folder, or wherever they can be written; says where, or that nowhere."""
    tried = []
    for parent in _other_parents(place):
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


def _other_parents(place: Path) -> list[Path]:
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
