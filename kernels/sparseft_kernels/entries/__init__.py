"""Where compact values stand in a weight: reading, writing, and tables for kernels."""

from sparseft_kernels.entries.layout import STRUCTURES, Entries, check_entries
from sparseft_kernels.entries.reference import read, write

__all__ = ["STRUCTURES", "Entries", "check_entries", "read", "write"]
