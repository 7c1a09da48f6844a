"""The tiny backbone: a Llama with half a million parameters and a tokenizer of words.

Its adapted modules have the names and shapes of those of a Qwen2 (q, k, v, o, gate, up, down); only the
biases of q, k and v are missing. It is not a Qwen2, because AutoTokenizer of transformers 5 reads the
tokenizer of every Qwen2 folder as byte-level BPE without an error, also if the folder has another one.
"""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emulator.learning.list_operations import END, PAD, UNKNOWN, VOCABULARY

HIDDEN, LAYERS, HEADS, INTERMEDIATE = 128, 3, 4, 256
MAX_TOKENS = 64


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per word, ids in the order of `VOCABULARY`, no added tokens.

    Law: `decode(encode(text))` equals text for known words separated by single spaces.
    """
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    words = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def build_model(torch_seed: int) -> LlamaForCausalLM:
    """Build an untrained float32 model from this seed; the state of torch's generator does not change."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=VOCABULARY.index(PAD),
        eos_token_id=VOCABULARY.index(END),
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed)
        return LlamaForCausalLM(config)
