"""A run of `task=compliance`: a decoder finetuned to fill records, then evaluated with its rules."""

from sparseft.training.compliance.pipeline import execute_compliance

__all__ = ["execute_compliance"]
