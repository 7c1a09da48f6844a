"""What the tests of reading share: a text as a scenario file."""

from collections.abc import Callable

import pytest

from emulator.errors import ScenarioError
from emulator.reading import Reading, read_scenario


@pytest.fixture
def read(tmp_path) -> Callable[..., Reading]:
    """Read a text, with overrides, as the file s.yaml; `name: s` is added where it has no name."""

    def reading(text: str, *overrides: str) -> Reading:
        path = tmp_path / "s.yaml"
        named = text if text.startswith("name:") else f"name: s\n{text}"
        path.write_text(named, encoding="utf-8")
        return read_scenario(path, overrides)

    return reading


@pytest.fixture
def problems(read) -> Callable[..., tuple[str, ...]]:
    """The problems of a text, each of them one line."""

    def listed(text: str, *overrides: str) -> tuple[str, ...]:
        with pytest.raises(ScenarioError) as caught:
            read(text, *overrides)
        for line in caught.value.problems:
            assert line.strip()
            assert "\n" not in line
        return caught.value.problems

    return listed
