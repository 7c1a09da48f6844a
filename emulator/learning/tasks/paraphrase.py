"""Paraphrases: test questions in other words, which no device was trained on."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example

PLACE = "{prompt}"
"""The place of the old prompt in a paraphrase."""


class Paraphrase(BaseModel):
    """Other words for a task: it replaces parts of the prompt, adds text around it, and renames choices.

    {replace: {"true or false, question:": "yes or no:"}, choices: {"true": "yes", "false": "no"}} or
    {prompt: "Did the critic like it? {prompt}", choices: {negative: bad, positive: good}}.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt: str = Field(
        default=PLACE, pattern=r"\{prompt\}", description="text around {prompt}, the old one"
    )
    replace: dict[str, str] = Field(
        default={}, description="parts of the old prompt and the text that replaces them"
    )
    choices: dict[str, str] = Field(default={}, description="new names of choices")

    def of(self, example: Example) -> Example:
        """The example in these words; the right choice stays the same under its new name."""
        prompt = example.prompt
        for old, new in self.replace.items():
            prompt = prompt.replace(old, new)
        renamed = {choice: self.choices.get(choice, choice) for choice in example.choices}
        return replace(
            example,
            prompt=self.prompt.replace(PLACE, prompt),
            choices=tuple(renamed.values()),
            answer=renamed.get(example.answer, example.answer),
        )


Paraphrases = dict[str, tuple[Paraphrase, ...]]
"""Paraphrases by task; the examples of a task use them in turn."""


def paraphrase_examples(
    examples: Sequence[Example], paraphrases: Sequence[Paraphrase]
) -> tuple[Example, ...]:
    """Paraphrase examples, with the paraphrases in turn; empty without paraphrases.

    Raises ScenarioError for a paraphrase that changes no prompt and no choice, or that gives two choices
    the same name.
    """
    if not paraphrases:
        return ()
    changed = tuple(
        paraphrases[i % len(paraphrases)].of(example) for i, example in enumerate(examples)
    )
    for index in range(min(len(paraphrases), len(changed))):
        first = changed[index]
        where = f"tasks.paraphrases.{first.task}.{index}"
        if changed[index :: len(paraphrases)] == tuple(examples[index :: len(paraphrases)]):
            raise ScenarioError([f"{where}: got words that change no example, wanted other words"])
        if len(set(first.choices)) < len(first.choices):
            raise ScenarioError(
                [f"{where}.choices: got {list(first.choices)}, wanted every name once"]
            )
    return changed
