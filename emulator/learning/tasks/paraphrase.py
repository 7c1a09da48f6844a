"""The same question in other words, as a scenario says it: instructions nobody was trained on."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example

PLACE = "{prompt}"
"""Where a paraphrase puts what it paraphrases."""


class Paraphrase(BaseModel):
    """Other words for a task: pieces of the prompt replaced, something put around it, choices renamed.

    {replace: {"true or false, question:": "yes or no:"}, choices: {"true": "yes", "false": "no"}} or
    {prompt: "Did the critic like it? {prompt}", choices: {negative: bad, positive: good}}.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt: str = Field(
        default=PLACE, pattern=r"\{prompt\}", description="text around {prompt}, the old one"
    )
    replace: dict[str, str] = Field(
        default={}, description="pieces of the old prompt and what stands in their place"
    )
    choices: dict[str, str] = Field(default={}, description="other names of choices")

    def of(self, example: Example) -> Example:
        """The example in these words; its right choice is the same under its new name."""
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
"""By task; its examples take them in turn."""


def paraphrase_examples(
    examples: Sequence[Example], paraphrases: Sequence[Paraphrase]
) -> tuple[Example, ...]:
    """Examples in turn under each paraphrase; none where there is no paraphrase.

    Raises ScenarioError where one changes no prompt and no choice, or gives two choices one name.
    """
    if not paraphrases:
        return ()
    told = tuple(
        paraphrases[i % len(paraphrases)].of(example) for i, example in enumerate(examples)
    )
    for index in range(min(len(paraphrases), len(told))):
        where = f"tasks.paraphrases.{told[index].task}.{index}"
        if told[index :: len(paraphrases)] == tuple(examples[index :: len(paraphrases)]):
            raise ScenarioError([f"{where}: got words that change no example, wanted other words"])
        if len(set(told[index].choices)) < len(told[index].choices):
            raise ScenarioError(
                [f"{where}.choices: got {list(told[index].choices)}, wanted every name once"]
            )
    return told
