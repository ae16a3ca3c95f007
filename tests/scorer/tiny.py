"""Causal models of a few thousand random weights, that read bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def tokenizer(template: str | None = TEMPLATE) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(["<|turn|>", "<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=built, chat_template=template)


def model(family: str = "llama", layers: int = 3, seed: int = 0, **changed: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family,
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
        initializer_range=0.2,
        **changed,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def save(directory: Path, *, template: str | None = TEMPLATE, **changed: Any) -> Path:
    """A Hugging Face directory."""
    model(**changed).save_pretrained(directory)
    tokenizer(template).save_pretrained(directory)
    return directory
