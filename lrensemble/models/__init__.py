"""Architectures by name: ``mlp``, ..., ``torchvision:NAME``, ``timm:NAME`` or ``package.module:callable``."""

from lrensemble.models.build import MODELS, build_model, is_users_own

__all__ = ["MODELS", "build_model", "is_users_own"]
