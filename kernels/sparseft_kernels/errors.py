"""What the operations raise when they are given input that they cannot take."""

__all__ = ["KernelInputError"]


class KernelInputError(ValueError):
    """Shapes, dtypes or an index that an operation cannot take; says what to do."""
