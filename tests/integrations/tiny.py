"""The smallest language model and rows for it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

UPDATES_AN_EPOCH = 3  # of ROWS by twos, accumulated over 2 batches: the last one is half
ROWS = 10


class Sentences(Dataset):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        tokens = (torch.arange(4) + i) % 16
        return {"input_ids": tokens, "labels": tokens}


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            pad_token_id=0,
        )
    )


def options(folder: Any, **changed: Any) -> dict[str, Any]:
    defaults = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return defaults | changed
