"""Architectures by name: ``mlp``, ``lenet``, ..., ``torchvision:NAME`` or ``package.module:callable``."""

from lrensemble.models.build import MODELS, build_model

__all__ = ["MODELS", "build_model"]
