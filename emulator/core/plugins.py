"""A user's own class in a scenario: `kind: mypackage.channels:Urban`."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, WrapValidator

from emulator.core.errors import EmulatorError
from emulator.core.failures import cause_of, is_from_outside


def plugin_or(protocol: type) -> WrapValidator:
    """Validate a section by its `kind`; an import path names a class that implements the protocol."""

    def validate(value: Any, built_in: Callable[[Any], Any]) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and ":" in kind:
            found = load(kind, protocol)
            _refuse_unknown(value, found)
            return found.model_validate(value)
        if isinstance(value, BaseModel) and ":" in str(getattr(value, "kind", "")):
            return value
        return built_in(value)

    return WrapValidator(validate)


def find(path: str) -> type[BaseModel]:
    """Import the class `package.module:Class`.

    Raises ValueError, which names what is missing: the module, the class, or a pydantic model.
    """
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        if isinstance(error, SyntaxError) or is_from_outside(error):
            raise ValueError(
                f"got {path!r}, whose module fails when it is imported, wanted one that does not "
                f"({cause_of(error)})"
            ) from error
        cause = " ".join(str(error).split())
        raise ValueError(f"got {path!r}, wanted an importable module ({cause})") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ValueError(f"got {path!r}, wanted a class in {module_name} (no {class_name!r} there)")
    if not (inspect.isclass(found) and issubclass(found, BaseModel)):
        raise ValueError(f"got {path!r}, wanted a pydantic model with a field kind: str")
    return found


def load(path: str, protocol: type) -> type[BaseModel]:
    """Import a class and check it against the protocol.

    Raises ValueError, which names the missing methods or arguments.
    """
    found = find(path)
    _check_class(found, protocol, path)
    return found


def check_part(part: object, protocol: type, path: str) -> None:
    """Raise EmulatorError if the object that a method's `start` returned lacks a member."""
    if lacking := find_missing(part, protocol):
        raise EmulatorError(
            f"method.kind: got {path!r}, whose start() gives an object of {type(part).__name__} without "
            f"{', '.join(lacking)}; wanted a protocols.{protocol.__name__}"
        )


def find_missing(part: object, protocol: type) -> list[str]:
    """The members of a protocol that an object lacks. Properties are not evaluated."""
    wanted = [name for name in vars(protocol) if not name.startswith("_")]
    return [name for name in wanted if not (hasattr(type(part), name) or name in vars(part))]


def find_misfits(found: type[BaseModel], protocol: type) -> list[str]:
    """The members of a protocol that a class lacks, and the methods whose arguments differ."""
    lacking = []
    wanted = {n: m for n, m in vars(protocol).items() if not n.startswith("_")}
    wanted |= dict.fromkeys(getattr(protocol, "__annotations__", {}))
    for name, member in wanted.items():
        present = name in found.model_fields or getattr(found, name, None) is not None
        if not present:
            lacking.append(f"{name}{inspect.signature(member) if callable(member) else ''}")
            continue
        if callable(member) and callable(getattr(found, name, None)):
            theirs = list(inspect.signature(getattr(found, name)).parameters)
            ours = list(inspect.signature(member).parameters)
            if theirs != ours:
                lacking.append(f"{name}({', '.join(ours)}) instead of {name}({', '.join(theirs)})")
    return lacking


def _refuse_unknown(value: dict[str, Any], found: type[BaseModel]) -> None:
    """Raise ValueError for an unknown key, even if the class itself ignores extra keys."""
    if found.model_config.get("extra") in ("forbid", "allow"):
        return
    for key in value:
        if key not in found.model_fields:
            known = ", ".join(found.model_fields)
            raise ValueError(f"{key}: got an unknown key, wanted one of {known}")


def _check_class(found: type[BaseModel], protocol: type, path: str) -> None:
    lacking = find_misfits(found, protocol)
    if "kind" not in found.model_fields:
        lacking.insert(0, "a field kind: str")
    if lacking:
        raise ValueError(
            f"got {path!r}, wanted a {protocol.__name__}: it lacks {'; '.join(lacking)}"
        )
