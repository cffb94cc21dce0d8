"""ABCD: human customer-service conversations, their gold records, rules and policy."""

from sparseft.compliance.abcd import rules as rules  # registers the schema's rules
from sparseft.compliance.abcd.corpus import Abcd, load_abcd

__all__ = ["Abcd", "load_abcd"]
