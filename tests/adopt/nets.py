"""What users bring: builders, a Lightning module, a wrapped classifier; and a loop that trains one in a moment."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from lrensemble import load_task
from lrensemble.tasks.rows import DeviceData

DATA = {"name": "digits", "val_fraction": 0.25}


def net(input_shape, num_classes, hidden=12, bias=True):
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, num_classes, bias=bias)
    )


def with_softmax(input_shape, num_classes, hidden=12):
    model = net(input_shape, num_classes, hidden)
    return model.append(nn.Softmax(1))


class Wrapped(nn.Module):
    def __init__(self, num_classes: int, hidden: int = 12) -> None:
        super().__init__()
        self.inner = net((1, 8, 8), num_classes, hidden)

    def forward(self, x):
        return self.inner(x)


class Adapted(nn.Module):
    """A frozen base, and what is trained on top of it: names as peft has them."""

    def __init__(self, num_classes: int, base_seed: int | None = 3) -> None:
        super().__init__()
        if base_seed is not None:
            torch.manual_seed(base_seed)
        self.base = nn.Linear(64, 32).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(32, num_classes)})

    def forward(self, x):
        return self.lora_A["default"](self.base(x.flatten(1)).relu())


def random_base(num_classes):
    return Adapted(num_classes, None)


def rows() -> DeviceData:
    return DeviceData.of(load_task("digits", val_fraction=0.25), torch.device("cpu"))


def train(model: nn.Module, data: DeviceData, lr: float, epochs: int = 3, seed: int = 0, factor=lambda share: 1.0):
    """Train with SGD; return lines of a log: step, epoch, lr, train_loss, val_acc."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    x, y = data.train.arrays["x"], data.train.labels
    lines, step, batches = [], 0, -(-len(y) // 64)
    for epoch in range(epochs):
        for index in torch.randperm(len(y)).split(64):
            optimizer.param_groups[0]["lr"] = now = lr * factor(step / (epochs * batches))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[index]), y[index])
            loss.backward()
            optimizer.step()
            step += 1
            lines.append({"step": step, "lr": now})
        accuracy = (data.scores(model, data.val).argmax(1) == data.val.labels).float().mean()
        lines[-1] |= {"epoch": epoch + 1, "train_loss": float(loss.detach()), "val_acc": float(accuracy)}
        model.train()
    model.eval()
    return lines


def logits(model: nn.Module, data: DeviceData) -> dict[str, torch.Tensor]:
    return {"val": data.scores(model, data.val), "test": data.scores(model, data.test)}
