"""accelerate: one step of the policy is one update, whatever the number of processes and of accumulated batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lrensemble import Policy, Pool, UserError

accelerate = pytest.importorskip("accelerate")

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradientAccumulationPlugin

from lrensemble.integrations.accelerate import MemberTracker, prepare_policy
from lrensemble.integrations.guard import check_update, policy_scheduler

COSINE = "COS(k0=0.1, l=100%)"
EPOCHS, BATCHES = 2, 5


class Loop:
    """Five batches an epoch, two of them an update."""

    def __init__(self, policy=COSINE, epochs=EPOCHS, log_with=None, at_ends=True, **options):
        AcceleratorState._reset_state(True)
        plugin = GradientAccumulationPlugin(num_steps=2, sync_with_dataloader=at_ends)
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_plugin=plugin, log_with=log_with)
        model = torch.nn.Linear(2, 1)
        data = torch.utils.data.TensorDataset(torch.ones(2 * BATCHES, 2))
        self.plain = torch.optim.SGD(model.parameters(), lr=0.1)
        loader = torch.utils.data.DataLoader(data, batch_size=2)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, self.plain, loader)
        self.epochs = epochs
        self.scheduler = prepare_policy(
            self.accelerator, self.optimizer, policy, batches=len(self.loader), epochs=epochs, **options
        )

    def train(self) -> list[float]:
        """The LR of every update."""
        lrs = []
        for _ in range(self.epochs):
            for (rows,) in self.loader:
                with self.accelerator.accumulate(self.model):
                    self.accelerator.backward(self.model(rows).square().mean())
                    if self.accelerator.sync_gradients:
                        lrs.append(self.optimizer.param_groups[0]["lr"])
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                if self.accelerator.sync_gradients:
                    check_update(policy_scheduler(self.scheduler), self.optimizer, len(lrs), self.model)
                    self.accelerator.log({"lr": lrs[-1], "step": -1}, step=len(lrs))
        return lrs


def two_processes(loop, monkeypatch):
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)  # what AcceleratedScheduler looks at
    assert AcceleratorState().num_processes == 2
    return loop


def test_one_step_an_update_with_two_processes(monkeypatch):
    expected = Policy.parse("COS(k0=0.1, l=6)")(np.arange(6))
    assert two_processes(Loop(), monkeypatch).train() == pytest.approx(expected)


def test_accumulation_that_goes_on_over_epochs():
    """10 batches by twos are 5 updates; where epochs end with one, 6."""
    assert Loop(at_ends=False).train() == pytest.approx(Policy.parse("COS(k0=0.1, l=5)")(np.arange(5)))


def test_what_accelerate_itself_does_is_found(monkeypatch):
    """`prepare` steps a scheduler once for every process: the policy would end twice as early."""
    loop = two_processes(Loop(), monkeypatch)
    loop.scheduler = loop.accelerator.prepare(policy_scheduler(loop.scheduler))
    with pytest.raises(UserError, match=r"after 1 updates the policy is at step 2.*prepare_policy"):
        loop.train()


def test_a_members_history(tmp_path):
    pool = Pool.create(tmp_path / "pool", labels={"val": [0, 1], "test": [1, 0]})
    with pool.member(model="linear", policy="STEP(k0=0.1, gamma=0.5, l=1e)", seed=0) as member:
        loop = Loop(member.policy, log_with=MemberTracker(member))
        loop.accelerator.init_trackers("pool")
        loop.train()
        member.predict(val=np.eye(2), test=np.eye(2))
    lines = Pool.open(pool.path).complete[0].history()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["lr"] for line in lines] == pytest.approx([0.1] * 3 + [0.05] * 3)


def test_resuming_under_another_budget(tmp_path):
    loop = Loop(epochs=1)
    loop.train()
    loop.accelerator.save_state(str(tmp_path))
    with pytest.raises(UserError, match=r"3 steps in all.*6 steps in all"):
        Loop().accelerator.load_state(str(tmp_path))
    loop = Loop(on_change="new")
    loop.accelerator.load_state(str(tmp_path))
    assert loop.scheduler.get_last_lr() == [Policy.parse("COS(k0=0.1, l=6)")(3)]


def test_an_optimizer_that_is_not_prepared():
    loop = Loop()
    with pytest.raises(UserError, match=r"SGD is not prepared: call accelerator.prepare"):
        prepare_policy(loop.accelerator, loop.plain, COSINE, batches=1, epochs=1)
