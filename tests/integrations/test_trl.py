"""trl's SFTTrainer: adapters and packing, where a schedule by hand trains nothing or ends elsewhere."""

from __future__ import annotations

import pytest
import torch

from lrensemble import UserError
from tests.integrations.tiny import llama, options

trl = pytest.importorskip("trl")
peft = pytest.importorskip("peft")

from datasets import Dataset

from lrensemble.integrations.transformers import PolicyGuard, PolicyTrainerMixin
from tests.integrations.test_transformers import COSINE, expected, logged, pair

ADAPTER = peft.LoraConfig(r=2, target_modules=["q_proj"])


class PolicySFTTrainer(PolicyTrainerMixin, trl.SFTTrainer):
    pass


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({str(i): i for i in range(16)}, unk_token="0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="0")


def sft(kind, folder, tokenizer, *, packing=False, **kwargs):
    rows = Dataset.from_dict({"input_ids": [[i % 14 + 2] * 4 for i in range(10)]})
    arguments = trl.SFTConfig(
        **options(folder, max_length=8, packing=packing, packing_strategy="wrapped", bf16=False, num_train_epochs=2)
    )
    return kind(
        kwargs.pop("model", None) or llama(), args=arguments, train_dataset=rows, processing_class=tokenizer, **kwargs
    )


@pytest.mark.parametrize(("packing", "total"), [(False, 6), (True, 4)])
def test_adapters_follow_the_policy(tmp_path, tokenizer, packing, total):
    trainer = sft(PolicySFTTrainer, tmp_path, tokenizer, packing=packing, policy=COSINE, peft_config=ADAPTER)
    before = {name: p.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    assert logged(trainer) == pytest.approx(expected(COSINE, total))
    assert all(not torch.equal(before[name], p) for name, p in trainer.model.named_parameters() if name in before)


@pytest.mark.parametrize("own_optimizer", [True, False])
def test_a_schedule_by_hand_is_stopped(tmp_path, tokenizer, own_optimizer):
    model = llama()
    optimizer, scheduler = pair(model.parameters())
    message = "trainable parameters belongs to the optimizer" if own_optimizer else "where the policy says"
    given = (optimizer if own_optimizer else None, scheduler)
    trainer = sft(
        trl.SFTTrainer,
        tmp_path,
        tokenizer,
        model=model,
        peft_config=ADAPTER,
        optimizers=given,
        callbacks=[PolicyGuard()],
    )
    with pytest.raises(UserError, match=message):
        trainer.train()
