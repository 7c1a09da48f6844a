"""The embedded default backbone: a causal LM of half a million parameters, its weights included.

`weights/` is an ordinary model folder (config, safetensors, tokenizer) that
`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` read without a network.
It was written by `python -m emulator.learning.backbone.tiny.pretrain`.
"""

from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).resolve().parent / "weights"
