"""What is compared, on which conversations."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ARMS", "COMMON", "DATA", "FURTHER", "SCALES", "SEEDS", "Arm"]

SEEDS = (0, 1, 2, 3, 4)
SCALES = (0.3, 1.0, 3.0)  # of each method's rate, on the first seed, chosen by validation
FURTHER = {0.3: 0.1, 3.0: 10.0}  # where the best rate is the lowest or highest, one beyond it

# Shared by all runs.
COMMON = (
    "+experiment=compliance",
    "tracking.wandb=off",
)


@dataclass(frozen=True)
class Arm:
    """One line of the table.

    Attributes:
        tuned_as: the arm whose learning rate it takes; itself where it is tuned.
        data: the corpora that it runs on.
    """

    name: str
    overrides: tuple[str, ...]
    tuned_as: str
    data: tuple[str, ...] = ("service", "abcd")


ARMS = (
    Arm("sparse", ("method=sparse",), "sparse"),
    Arm("lora", ("method=lora",), "lora"),
    Arm("full", ("method=full",), "full"),
    Arm("sparse, model only", ("method=sparse", "task.compliance.owner=model"), "sparse"),
    Arm(
        "sparse, no hard negatives",
        ("method=sparse", "task.compliance.hard_negatives=0"),
        "sparse",
        ("service",),  # those of people cannot be made
    ),
)

DATA: dict[str, tuple[str, ...]] = {
    "service": ("data=service", "task.compliance.schema=service"),
    "abcd": (
        "data=abcd",
        "task.compliance.schema=abcd",
        "data.test_rows=300",
    ),
}
