"""The compared ways to prepare a model for finetuning: one file each, one registry."""

# Importing a method's file registers it.
from sparseft.methods import (  # noqa: F401
    bitfit,
    full,
    layers,
    lora,
    prefix,
    probe,
    shira,
    sparse,
)
from sparseft.methods.base import Method, MethodContext, Prepared, get, names, register

__all__ = ["Method", "MethodContext", "Prepared", "get", "names", "register"]
