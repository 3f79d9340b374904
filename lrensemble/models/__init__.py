"""Architectures by name: ``mlp``, ..., ``torchvision:NAME``, ``timm:NAME`` or ``package.module:callable``."""

from lrensemble.models.build import MODELS, build_model, register_model
from lrensemble.models.memory import MemoryLimit
from lrensemble.models.objects import is_users_own
from lrensemble.models.pretrained import hash_of_tensors, identified
from lrensemble.own import untrusted

__all__ = [
    "MODELS",
    "MemoryLimit",
    "build_model",
    "hash_of_tensors",
    "identified",
    "is_users_own",
    "register_model",
    "untrusted",
]
