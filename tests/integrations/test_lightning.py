"""Lightning: the budget is its trainer's, one step of the policy is one update, and a change is not silent."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from lrensemble import Policy, Pool, UserError

lightning = pytest.importorskip("lightning")

from lrensemble.integrations.lightning import PolicyCallback, configure_policy

COSINE = "COS(k0=0.1, l=100%)"


class Net(lightning.LightningModule):
    def __init__(self, policy, interval="step", **options):
        super().__init__()
        self.net, self.policy, self.interval, self.options = torch.nn.Linear(2, 1), policy, interval, options

    def training_step(self, rows, index):
        loss = self.net(rows[0]).square().mean()
        self.log_dict({"train_loss": loss, "lr": -1.0, "epoch": -1.0}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        configured = configure_policy(self, optimizer, self.policy, **self.options)
        configured["lr_scheduler"]["interval"] = self.interval
        return configured


def fit(net, callback, checkpoint=None, **options):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(10, 2)), batch_size=2)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(accelerator="cpu", callbacks=[callback], **quiet, **options)
    trainer.fit(net, loader, ckpt_path=checkpoint)
    return trainer


@pytest.mark.parametrize("text", [COSINE, "STEP(k0=0.1, gamma=0.5, l=1e)"])
def test_a_member(tmp_path, text):
    pool = Pool.create(tmp_path / "pool", labels={"val": [0, 1], "test": [1, 0]})
    with pool.member(model="net", policy=text, seed=0) as member:
        net = Net(member.policy)
        trainer = fit(net, PolicyCallback(member), max_epochs=2, accumulate_grad_batches=2)
        member.predict(val=np.eye(2), test=np.eye(2))
    assert trainer.global_step == 6  # 5 batches are 3 updates
    assert trainer.lr_scheduler_configs[0].scheduler.policy == Policy.parse(text).bind(steps_per_epoch=3, total_steps=6)
    lines = Pool.open(pool.path).complete[0].history()
    assert [(line["step"], line["epoch"]) for line in lines] == [(3, 1), (6, 2)]
    assert lines[0]["train_loss"] > lines[1]["train_loss"] > 0


def test_a_resumed_member_has_its_whole_history(tmp_path):
    pool = Pool.create(tmp_path / "pool", labels={"val": [0, 1], "test": [1, 0]})
    with contextlib.suppress(KeyboardInterrupt), pool.member(model="net", policy=COSINE, seed=0) as member:
        fit(Net("FIX(0.1)"), PolicyCallback(member), max_epochs=1).save_checkpoint(tmp_path / "at.ckpt")
        raise KeyboardInterrupt
    with pool.member(model="net", policy=COSINE, seed=0) as member:
        fit(Net("FIX(0.1)"), PolicyCallback(member), tmp_path / "at.ckpt", max_epochs=2)
        member.predict(val=np.eye(2), test=np.eye(2))
    assert [line["step"] for line in Pool.open(pool.path).complete[0].history()] == [5, 10]


def test_a_second_fit_with_one_callback_logs_each_step_once(tmp_path):
    """Resumed from where it was, and from before."""
    pool = Pool.create(tmp_path / "pool", labels={"val": [0, 1], "test": [1, 0]})
    with pool.member(model="net", policy=COSINE, seed=0) as member:
        callback = PolicyCallback(member)
        fit(Net("FIX(0.1)"), callback, max_epochs=1).save_checkpoint(tmp_path / "at.ckpt")
        for epochs in (3, 2):
            fit(Net("FIX(0.1)"), callback, tmp_path / "at.ckpt", max_epochs=epochs)
        member.predict(val=np.eye(2), test=np.eye(2))
    lines = Pool.open(pool.path).complete[0].history()
    assert [(line["step"], line["epoch"]) for line in lines] == [(5, 1), (10, 2)]
    assert [line["step"] for line in callback.state_dict()["history"]] == [5, 10]


def test_a_policy_that_is_stepped_by_the_epoch_is_stopped():
    with pytest.raises(UserError, match="after 1 updates the policy is at step 0"):
        fit(Net(COSINE, interval="epoch"), PolicyCallback(), max_epochs=1)


def test_a_module_without_a_policy_is_stopped():
    net = Net(COSINE)
    net.configure_optimizers = lambda: torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(UserError, match="the policy is not followed"):
        fit(net, PolicyCallback(), max_epochs=1)


def test_training_without_an_end_is_no_budget():
    with pytest.raises(UserError, match="inf updates are no budget"):
        fit(Net(COSINE), PolicyCallback(), max_epochs=-1)


def test_resuming_under_another_budget(tmp_path):
    fit(Net(COSINE), PolicyCallback(), max_epochs=1).save_checkpoint(tmp_path / "at.ckpt")
    with pytest.raises(UserError, match=r"5 steps in all.*10 steps in all"):
        fit(Net(COSINE), PolicyCallback(), tmp_path / "at.ckpt", max_epochs=2)
    trainer = fit(Net(COSINE, on_change="new"), PolicyCallback(), tmp_path / "at.ckpt", max_epochs=2)
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert scheduler.get_last_lr() == [Policy.parse("COS(k0=0.1, l=10)")(10)]
