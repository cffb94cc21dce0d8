"""A run of `task=dst`: an encoder is finetuned to track dialogue states."""

from sparseft.training.dst.pipeline import execute_dst

__all__ = ["execute_dst"]
