"""Models of transformers that are made here: a tokenizer of bytes, a Llama of 4 layers, a BERT of 3."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def write_tokenizer(folder: Path) -> None:
    """One token for every byte, <pad> and <end> behind them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_llama(folder: Path, *, layers: int = 4, seed: int = 0, pad: int | None = 256) -> Path:
    import transformers

    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=pad, bos_token_id=None, eos_token_id=257,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():  # larger than it begins with, so that scores differ
        parameter.data.mul_(4 if parameter.ndim == 2 else 1)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_bert(folder: Path) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=258, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=256,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(count: int, start: int = 0) -> list[dict]:
    """Texts of two classes that differ in their first word."""
    return [
        {"text": f"{('red', 'blue')[i % 2]} number {i}" + " and so on" * (i % 3), "label": ("warm", "cold")[i % 2]}
        for i in range(start, start + count)
    ]


def questions(count: int, start: int = 0) -> list[dict]:
    """Sums with 2 to 4 choices, of which the first is right."""
    return [
        {"question": f"{i} + 1", "choices": [str(i + 1), *[str(i + 20 + k) for k in range(1 + i % 3)]], "answer": 0}
        for i in range(start, start + count)
    ]
