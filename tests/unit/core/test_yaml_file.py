"""YAML and JSON are read without surprising values, without hanging, in bounded memory, with clear errors."""

import json
import tracemalloc
from pathlib import Path

import pytest

from emulator.core import yaml_file
from emulator.core.errors import ScenarioError
from emulator.core.yaml_file import parse_json, parse_value, read_json, read_mapping


def problem_of(path: Path, text: str | bytes) -> str:
    """The one line that reading the text raises."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ScenarioError) as caught:
        read_mapping(path, "a scenario")
    (line,) = caught.value.problems
    assert "\n" not in line
    assert len(line) < 600
    return line


# ── numbers and words that YAML 1.1 reads as other values ────────────────────────────────────────

SURPRISES = {
    "octal": ("seed: 010", "seed: got 010, which YAML 1.1 reads as 8, wanted 8, or '010' in quotes"),
    "sixties": ("a: {rounds: 1:30}", "a.rounds: got 1:30, which YAML 1.1 reads as 90, wanted 90, or"),
    "sixties with a fraction": ("a: [0, 1:30.5]", "a.1: got 1:30.5, which YAML 1.1 reads as 90.5, w"),
    "underscores": ("devices: 1_0", "devices: got 1_0, which YAML 1.1 reads as 10, wanted 10, or"),
    "underscores in a float": ("r: 1_0.5", "r: got 1_0.5, which YAML 1.1 reads as 10.5, wanted"),
    "binary": ("seed: 0b11", "seed: got 0b11, which YAML 1.1 reads as 3, wanted 3, or '0b11' in"),
    "no digits": ("seed: 0x_", "seed: got 0x_, wanted true, false or a number, or '0x_' in quotes"),
    "a date": ("name: 2026-02-03", "name: got 2026-02-03, which YAML takes for a date, wanted '20"),
    "no date": ("name: 2026-02-30", "name: got 2026-02-30, which YAML takes for a date, wanted '2"),
    "no month": ("seed: 2024-13-45", "seed: got 2024-13-45, which YAML takes for a date, wanted"),
    "5000 digits": (f"seed: {'1' * 5000}", "(5002 characters), wanted at most 60 characters"),
    "a tag that does not fit": ("seed: !!int abc", "seed: got abc, wanted true, false or a number"),
    "a bool of another kind": ("x: !!bool maybe", "x: got maybe, wanted true, false or a number"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line"), SURPRISES.values(), ids=SURPRISES)
def test_a_value_that_would_be_misread_is_refused_by_its_path(tmp_path, text, line):
    assert line in problem_of(tmp_path / "s.yaml", text)


@pytest.mark.parametrize("text", ["010", "1:30", "1_0", "0x_", "2026-02-30", "2024-13-45"])
def test_the_same_holds_for_an_override(text):
    with pytest.raises(ScenarioError, match=rf"^--set seed: got {text}, "):
        parse_value(text, "--set seed")


def test_all_misread_values_are_reported_together(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("seed: 010\nlocal: {steps: 1_0}\n")
    with pytest.raises(ScenarioError) as caught:
        read_mapping(path, "a scenario")
    assert [line.split(": ")[1] for line in caught.value.problems] == ["seed", "local.steps"]


def test_values_with_one_meaning_are_read(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "a: [10, -3, +4, 0x1F, 1.5, .5, 2.0e+3, .inf, 0, true, False, null, ~]\n"
        "b: [yes, No, on, OFF, y, '010', \"2026-02-30\", 1e-4]\n"
    )
    assert read_mapping(path, "a scenario") == {
        "a": [10, -3, 4, 31, 1.5, 0.5, 2000.0, float("inf"), 0, True, False, None, None],
        "b": ["yes", "No", "on", "OFF", "y", "010", "2026-02-30", "1e-4"],
    }


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────

KEYS = {
    "a template": (
        "name: {{ run_name }}",
        r"s.yaml:1: got a mapping as a key (braces of a template",
    ),
    "a list": ("a: 1\n? [a, b]\n: 2", "s.yaml:2: got a list as a key"),
    "a number": ("a:\n  3: 4", "s.yaml:2: got an unknown key 3, wanted text in quotes"),
    "nothing": ("~: 4", "s.yaml:1: got an unknown key ~, wanted text in quotes"),
    "twice": ("a: 1\nb: 2\na: 3", "s.yaml:3: got the key 'a' twice, wanted each key once"),
    "twice inside": ("a: {b: 1,\n b: 2}", "s.yaml:2: got the key 'b' twice, wanted each key once"),
}


@pytest.mark.parametrize(("text", "line"), KEYS.values(), ids=KEYS)
def test_a_wrong_key_is_reported_with_its_line(tmp_path, text, line):
    assert line in problem_of(tmp_path / "s.yaml", text)


# ── size and depth ───────────────────────────────────────────────────────────────────────────────

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n"
    for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
TOO_LARGE = {
    "an anchor bomb": (BOMB, "got more than 100000 values, aliases written out"),
    "merged mappings": (BOMB + "z: {<<: [*i]}", "got more than 100000 values"),
    "plain values": ("a: [" + "0," * 100_001 + "]", "got more than 100000 values"),
    "brackets": ("a: " + "[" * 5000 + "]" * 5000, "got more than 40 levels inside each other"),
    "blocks": ("- " * 5000 + "x", "got more than 40 levels inside each other"),
    "keys": ("? " * 5000 + "x", "got more than 40 levels inside each other"),
    "aliases of aliases": (CHAIN, "got more than 40 levels inside each other"),
    "bytes": ("# " + "x" * 10_000_000, "got more than 1048576 bytes, wanted a scenario in YAML"),
    "itself": ("access: &a {kind: ofdma, x: *a}", "got the alias *a inside of what it stands for"),
    "its own kind": ("method: &a {kind: *a}", "got the alias *a inside of what it stands for"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_size_and_depth_are_bounded_before_anything_is_built(tmp_path, text, line, monkeypatch):
    def build(*_args):
        raise AssertionError("got a value built, wanted the file refused before")

    monkeypatch.setattr(yaml_file._BoundedLoader, "construct_document", build)
    path = tmp_path / "s.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        assert line in problem_of(path, text)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


def test_an_alias_that_is_written_out_small_is_a_value_like_another(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n")
    assert read_mapping(path, "a scenario") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: s\n")
    assert read_mapping(path, "a scenario") == {"name": "s"}


FOREIGN = {
    "latin-1": (b"a: 1\nb: \xe9", "s.yaml:2: cannot be read: no UTF-8"),
    "utf-16": ("a: 1".encode("utf-16"), "s.yaml:1: cannot be read: no UTF-8"),
    "zeros": (b"a: \x00", "s.yaml: special characters are not allowed, wanted a YAML mapping"),
    "a tab": (b"a:\n\tb: 1", "s.yaml:2: "),
    "a set": (b"a: !!set {b, c}", "s.yaml:1: could not determine a constructor"),
    "bytes": (b"a: !!binary x", "s.yaml:1: could not determine a constructor"),
}


@pytest.mark.parametrize(("data", "line"), FOREIGN.values(), ids=FOREIGN)
def test_bytes_that_are_not_yaml(tmp_path, data, line):
    assert line in problem_of(tmp_path / "s.yaml", data)


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────

NO_JSON = {
    "deep": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "digits": (f'{{"a": {"1" * 5000}}}', "a number of more than 4300 digits"),
    "twice": ('{"a": 1, "a": 2}', "the key 'a' twice"),
    "no JSON": ("{", "Expecting property name"),
}


@pytest.mark.parametrize(("text", "line"), NO_JSON.values(), ids=NO_JSON)
def test_json_beyond_the_limits_is_a_value_error(text, line, tmp_path):
    with pytest.raises(ValueError, match=line):
        parse_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ScenarioError, match=rf"x\.json: got no JSON \({line}.*wanted a summary"):
        read_json(tmp_path / "x.json", "a summary")


def test_a_json_file_may_be_missing_a_folder_or_foreign(tmp_path):
    with pytest.raises(ScenarioError, match=r"x\.json: no such file, wanted a summary"):
        read_json(tmp_path / "x.json", "a summary")
    with pytest.raises(ScenarioError, match="Is a directory"):
        read_json(tmp_path, "a summary")
    (tmp_path / "x.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(ScenarioError, match=r"x\.json: got no UTF-8 .*, wanted a summary"):
        read_json(tmp_path / "x.json", "a summary")
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert read_json(tmp_path / "x.json", "a summary") == {"a": 1}
