"""transformers' Trainer: the faults that a schedule meets there, each of them measured before it was a test."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lrensemble import Policy, Pool, UserError
from tests.integrations.tiny import UPDATES_AN_EPOCH, Sentences, llama, options

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import Trainer, TrainingArguments

from lrensemble.integrations.transformers import MemberCallback, PolicyGuard, PolicyTrainerMixin

COSINE = "COS(k0=0.1, l=100%)"


class PolicyTrainer(PolicyTrainerMixin, Trainer):
    pass


def trainer_of(folder, policy=COSINE, *, changed=None, rows=None, **kwargs) -> PolicyTrainer:
    arguments = TrainingArguments(**options(folder, **(changed or {})))
    return PolicyTrainer(llama(), arguments, train_dataset=rows or Sentences(), policy=policy, **kwargs)


def logged(trainer: Trainer) -> list[float]:
    return [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]


def expected(text: str, total: int, *, per_epoch: int = UPDATES_AN_EPOCH) -> list[float]:
    return list(Policy.parse(text).bind(steps_per_epoch=per_epoch, total_steps=total)(np.arange(total)))


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return (Sentences()[i % 10] for i in range(100))


@pytest.mark.parametrize(
    ("text", "changed", "total", "per_epoch"),
    [
        (COSINE, {"num_train_epochs": 2}, 6, 3),
        (COSINE, {"dataloader_drop_last": True, "per_device_train_batch_size": 4}, 1, 1),
        ("STEP(k0=0.1, gamma=0.5, l=1e)", {"max_steps": 5}, 5, 3),
        ("STEP(k0=0.1, gamma=0.5, l=50%)", {"max_steps": 4}, 4, 4),
    ],
)
def test_the_budget_is_the_trainers(tmp_path, text, changed, total, per_epoch):
    trainer = trainer_of(tmp_path, text, changed=changed, rows=Stream() if "%)" in text and total == 4 else None)
    trainer.train()
    assert trainer.state.global_step == total == trainer.lr_scheduler.last_epoch
    assert logged(trainer) == pytest.approx(expected(text, total, per_epoch=per_epoch))


def test_a_members_history(tmp_path):
    pool = Pool.create(tmp_path / "pool", labels={"val": [0, 1], "test": [1, 0]})
    with pool.member(model="llama", policy=COSINE, seed=0) as member:
        trainer = trainer_of(
            tmp_path,
            member.policy,
            changed={"eval_strategy": "epoch"},
            eval_dataset=Sentences(),
            callbacks=[MemberCallback(member)],
        )
        trainer.train()
        member.predict(val=np.eye(2), test=np.eye(2))
    [found] = Pool.open(pool.path).complete
    lines = found.history()
    training = [line for line in lines if "train_loss" in line]
    assert [line["step"] for line in training] == [1, 2, 3]
    assert [line["lr"] for line in training] == pytest.approx(expected(COSINE, 3))
    [last] = [line for line in lines if "val_loss" in line]
    assert (last["step"], last["epoch"]) == (3, 1)
    assert found.record.costs["steps"] == 3
    assert found.record.costs["parameters"] == llama().num_parameters()


def test_a_resumed_member_has_its_whole_history(tmp_path):
    pool, saving = Pool.create(tmp_path / "pool", labels={"val": [0, 1], "test": [1, 0]}), {"save_strategy": "steps"}
    with contextlib.suppress(KeyboardInterrupt), pool.member(model="llama", policy=COSINE, seed=0) as member:
        trainer = trainer_of(tmp_path, changed=saving | {"save_steps": 2}, callbacks=[MemberCallback(member)])
        trainer.train()
        raise KeyboardInterrupt
    with pool.member(model="llama", policy=COSINE, seed=0) as member:
        trainer = trainer_of(tmp_path, callbacks=[MemberCallback(member)])
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        member.predict(val=np.eye(2), test=np.eye(2))
    lines = Pool.open(pool.path).complete[0].history()
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert [line["lr"] for line in lines] == pytest.approx(expected(COSINE, 3))
    trainer.train()  # again from the beginning, on the same optimizer
    assert logged(trainer) == pytest.approx(expected(COSINE, 3))


@pytest.mark.parametrize("text", ["PLATEAU(FIX(0.1))", "LRTUNER()"])
def test_a_controller_is_no_policy_for_a_trainer(tmp_path, text):
    with pytest.raises(UserError):
        trainer_of(tmp_path, text)


def checkpoint(folder, **changed) -> str:
    trainer_of(folder, changed={"save_strategy": "steps", "save_steps": 2, "max_steps": 2, **changed}).train()
    return str(folder / "checkpoint-2")


def test_resuming_under_another_budget_or_policy(tmp_path):
    saved = checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"2 steps in all.*FIX\(k0=0.005\).*on_change=\"new\""):
        trainer_of(tmp_path, "FIX(0.005)").train(resume_from_checkpoint=saved)
    with pytest.raises(UserError, match=r"2 steps in all.*6 steps in all"):
        trainer_of(tmp_path, changed={"num_train_epochs": 2}).train(resume_from_checkpoint=saved)
    trainer = trainer_of(tmp_path, changed={"num_train_epochs": 2}, on_change="new")
    trainer.train(resume_from_checkpoint=saved)
    assert logged(trainer)[2:] == pytest.approx(expected(COSINE, 6)[2:])
    assert trainer.lr_scheduler.last_epoch == 6


def test_a_checkpoint_without_the_schedulers_state(tmp_path):
    saved = checkpoint(tmp_path, save_only_model=True)
    trainer = trainer_of(tmp_path, changed={"num_train_epochs": 2})
    with pytest.warns(UserWarning, match="goes on at update 2, the policy was at step 0"):
        trainer.train(resume_from_checkpoint=saved)
    assert logged(trainer)[2:] == pytest.approx(expected(COSINE, 6)[2:])


def guarded(folder, optimizers_of) -> Trainer:
    """A plain Trainer with optimizers made by hand."""
    model = llama()
    optimizers = optimizers_of(model)
    arguments = TrainingArguments(**options(folder))
    return Trainer(model, arguments, train_dataset=Sentences(), optimizers=optimizers, callbacks=[PolicyGuard()])


def pair(parameters, policy=COSINE):
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    return optimizer, Policy.parse(policy).scheduler(optimizer, total_steps=3, steps_per_epoch=3)


def two_steps(parameters):
    optimizer, scheduler = pair(parameters)
    step = scheduler.step
    scheduler.step = lambda: (step(), step())  # as accelerate's wrapper does with two processes
    return optimizer, scheduler


@pytest.mark.parametrize(
    ("optimizers_of", "message"),
    [
        # An optimizer of its own, at 5e-5, while the log shows the policy.
        (lambda model: (None, pair(model.parameters())[1]), "has LR 5e-05, 5e-05 where the policy says 0.075"),
        # What is trained is not the optimizer's: it was built before the adapters.
        (lambda model: pair(llama().parameters()), "none of the model's 12 trainable parameters"),
        (lambda model: two_steps(model.parameters()), "after 1 updates the policy is at step 2"),
        (lambda model: (torch.optim.AdamW(model.parameters()), None), "steps a LambdaLR"),
    ],
    ids=["another optimizer", "other parameters", "two steps", "no policy"],
)
def test_the_guard_stops_a_trainer_that_does_not_follow(tmp_path, optimizers_of, message):
    with pytest.raises(UserError, match=message):
        guarded(tmp_path, optimizers_of).train()


def test_the_guard_lets_a_right_one_through(tmp_path):
    trainer = guarded(tmp_path, lambda model: pair(model.parameters()))
    trainer.train()
    assert logged(trainer) == pytest.approx(expected(COSINE, 3))


def test_updates_that_loss_scaling_skipped_are_the_trainers_alone():
    """In float16 the Trainer counts an update that the scaler skipped, and does not step the scheduler."""
    model = llama()
    optimizer, scheduler = pair(model.parameters())
    args = SimpleNamespace(fp16=True, deepspeed=None)
    given = {"lr_scheduler": scheduler, "optimizer": optimizer, "model": model}
    guard, state = PolicyGuard(), SimpleNamespace(global_step=0)
    guard.on_train_begin(args, state, None, **given)
    for state.global_step, skipped in enumerate([True, False, True], start=1):
        optimizer.step_was_skipped = skipped
        if not skipped:
            optimizer.step()
            scheduler.step()
        guard.on_step_end(args, state, None, **given)
    assert scheduler.last_epoch == 1
    again = PolicyGuard()  # resumed: the policy goes on at its own step
    again.on_train_begin(args, state, None, **given)
    assert scheduler.last_epoch == 1
    state.global_step, optimizer.step_was_skipped = 4, False
    with pytest.raises(UserError, match="after 2 updates the policy is at step 1"):
        again.on_step_end(args, state, None, **given)


def test_two_schedules_are_refused(tmp_path):
    with pytest.raises(UserError, match="two schedules"):
        trainer_of(tmp_path, optimizers=pair(llama().parameters()))
