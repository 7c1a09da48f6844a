"""The embedded default backbone: a causal LM with half a million parameters and its weights.

`weights/` is an ordinary model folder (config, safetensors, tokenizer) that
`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` read without a network.
It was written by `python -m emulator.learning.backbone.tiny.pretrain`.
"""

from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).resolve().parent / "weights"
