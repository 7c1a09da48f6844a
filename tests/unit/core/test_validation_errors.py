"""All problems that pydantic finds have the same form of message: where, got, wanted."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emulator.core.validation_errors import explain_problem


class Dense(BaseModel):
    kind: Literal["dense"] = "dense"


class Sparse(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["sparse"] = "sparse"
    density: float = Field(default=0.5, gt=0, le=1)
    steps: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "Sparse":
        if self.steps == 7:
            raise ValueError("steps: got 7, wanted another\ndensity: got it, wanted none")
        if self.steps == 8:
            raise ValueError("got 8, wanted 9")
        if self.steps == 9:
            raise ValueError("this is not done")
        return self


class Whole(BaseModel):
    name: str = "a"
    method: Annotated[Dense | Sparse, Field(discriminator="kind")] = Dense()
    sparse: Sparse = Sparse()
    rounds: list[int] = Field(default=[1], min_length=1)


PROBLEMS = {
    "unknown key": (
        {"sparse": {"densty": 1}},
        ["sparse.densty: got an unknown key; did you mean 'density'?"],
    ),
    "unknown key, unlike any": (
        {"sparse": {"zzz": 1}},
        ["sparse.zzz: got an unknown key, wanted one of kind, density, steps"],
    ),
    "unknown kind": (
        {"method": {"kind": "spars"}},
        ["method.kind: got 'spars', wanted one of dense, sparse; did you mean 'sparse'?"],
    ),
    "no kind": ({"method": {}}, ["method: got {}, wanted a mapping with a kind"]),
    "too much": ({"sparse": {"density": 2}}, ["sparse.density: got 2, wanted at most 1"]),
    "too little": ({"sparse": {"steps": 0}}, ["sparse.steps: got 0, wanted at least 1"]),
    "no number": ({"sparse": {"steps": "x"}}, ["sparse.steps: got 'x', wanted a whole number"]),
    "no text": ({"name": 3}, ["name: got 3, wanted text"]),
    "nothing in it": ({"rounds": []}, ["rounds: got [], wanted at least 1 of them"]),
    "reported by key": (
        {"sparse": {"steps": 7}},
        ["sparse.steps: got 7, wanted another", "sparse.density: got it, wanted none"],
    ),
    "reported": ({"sparse": {"steps": 8}}, ["sparse: got 8, wanted 9"]),
    "reported without what was got": (
        {"sparse": {"steps": 9}},
        ["sparse: got {'steps': 9}: this is not done"],
    ),
}


@pytest.mark.parametrize(("raw", "lines"), PROBLEMS.values(), ids=PROBLEMS)
def test_each_problem_names_where_got_and_wanted(raw: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(raw)
    (problem,) = caught.value.errors()
    where = ".".join(str(key) for key in problem["loc"])
    assert explain_problem(problem, where, known=known_at(problem["type"])) == lines


def known_at(kind: str) -> list[str]:
    return list(Sparse.model_fields) if kind == "extra_forbidden" else []


def test_the_whole_has_no_place_and_a_caller_may_know_better() -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(["x"])
    assert explain_problem(caught.value.errors()[0], "") == ["got ['x'], wanted a mapping"]
    reported = explain_problem(caught.value.errors()[0], "", wanted="a run's summary")
    assert reported == ["got ['x'], wanted a run's summary"]
