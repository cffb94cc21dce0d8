"""A run of `task=compliance`: a decoder is finetuned to fill records and evaluated with rules."""

from sparseft.training.compliance.pipeline import execute_compliance

__all__ = ["execute_compliance"]
