"""The exceptions that a user of sparseft can meet.

Every message follows one form: what was expected, what was found, and what to do about it.
"""


class SparseftError(Exception):
    """Base of every error that sparseft raises on purpose."""


class ConfigError(SparseftError, ValueError):
    """A setting is missing, unknown, or outside its range."""


class DataError(SparseftError, ValueError):
    """A data set cannot be read, or cannot be learned from."""


class ModelError(SparseftError, ValueError):
    """A model cannot be found, loaded, or is of a shape that is not recognised."""


class SelectionError(SparseftError, ValueError):
    """A selection is empty, contradicts itself, or does not fit the model."""


class DeltaError(SparseftError, ValueError):
    """A delta is damaged, or belongs to another model or format."""


class ResultError(SparseftError, ValueError):
    """A result file is missing, damaged, or of another schema."""


class CheckpointError(SparseftError, ValueError):
    """A checkpoint is damaged, or belongs to another run."""
