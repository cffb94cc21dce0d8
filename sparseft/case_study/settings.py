"""How large a case study is: what bounds its time and its page."""

from __future__ import annotations

from dataclasses import dataclass

from sparseft.errors import ConfigError

__all__ = ["CaseSettings"]


@dataclass(frozen=True)
class CaseSettings:
    """Sizes of a case study.

    Attributes:
        classes: shown classes, those with the most scored test rows.
        constructs: constructs listed for a class.
        mined_rows: training rows that constructs are mined from.
        words: salient words listed for a class.
        least_texts: a word must stand in as many texts of a class to be listed.
        saliency_rows: training rows that are looked at for salient words.
        test_rows: test rows that are predicted.
        class_rows: training rows of a class that its units' sensitivity is measured on.
        share: of the selected units that is ablated, in (0, 1).
        draws: random draws of as many units, for each class.
        batch_size: rows of a forward.
        seed: of all draws.

    Raises:
        ConfigError: a value is outside its range.
    """

    classes: int = 8
    constructs: int = 5
    mined_rows: int = 3000
    words: int = 8
    least_texts: int = 3
    saliency_rows: int = 600
    test_rows: int = 400
    class_rows: int = 64
    share: float = 0.1
    draws: int = 8
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "share":
                valid, expected = 0.0 < value < 1.0, "above 0 and below 1"
            else:
                least = 0 if name == "seed" else 1
                valid, expected = value >= least, f"{least} or more"
            if not valid:
                raise ConfigError(f"expected {name} of {expected}, got {value}; change it.")
