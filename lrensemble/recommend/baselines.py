"""What Caffe and PyTorch train with when nobody chooses: schedules of their own examples."""

from __future__ import annotations

import inspect

from lrensemble.policies import Policy
from lrensemble.pool import RunSpec

# Caffe: examples/mnist/lenet_solver.prototxt; examples/cifar10/cifar10_full_solver.prototxt (60,000 of 70,000 steps,
# then twice a tenth); models/bvlc_reference_caffenet/solver.prototxt (step 100,000 of 450,000) for everything else.
CAFFE = {
    "lenet": "INV(k0=0.01, gamma=0.0001, p=0.75)",
    "cnn3": "NSTEP(k0=0.001, gamma=0.1, l=[85.7%, 92.9%])",
}
CAFFENET = "STEP(k0=0.01, gamma=0.1, l=22.2%)"
IMAGENET = "STEP(k0=0.1, gamma=0.1, l=33.3%)"  # pytorch/examples and torchvision: 0.1, a tenth every 30 of 90 epochs


def baselines(spec: RunSpec) -> dict[str, str]:
    """Name -> policy: Caffe's solver for the model, PyTorch's default LR held constant, and its ImageNet example."""
    import torch

    kinds = {name.lower(): kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind)}
    lr = inspect.signature(kinds[spec.optimizer.name.lower()]).parameters["lr"].default
    found = {
        "Caffe": CAFFE.get(spec.model.name, CAFFENET),
        "PyTorch default LR": f"FIX(k0={float(lr):g})",
        "PyTorch ImageNet example": IMAGENET,
    }
    return {name: str(Policy.parse(policy)) for name, policy in found.items()}
