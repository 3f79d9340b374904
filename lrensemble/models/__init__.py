"""Architectures by name: ``mlp``, ..., ``torchvision:NAME``, ``timm:NAME`` or ``package.module:callable``."""

from lrensemble.models.build import MODELS, build_model, is_users_own
from lrensemble.models.memory import MemoryLimit
from lrensemble.own import untrusted

__all__ = ["MODELS", "MemoryLimit", "build_model", "is_users_own", "untrusted"]
