"""One mark for each family of methods, so that colour is not needed to tell them apart."""

from __future__ import annotations

from sparseft.reporting.svg import element, number

__all__ = ["mark"]


def mark(x: float, y: float, family: str, size: float = 1.0) -> str:
    """The mark of `family` at (x, y); its colour is that of the class around it."""
    r = 6.0 * size

    def path(*corners: tuple[float, float]) -> str:
        drawn = (
            "M" + "L".join(f"{number(x + dx * r)} {number(y + dy * r)}" for dx, dy in corners) + "Z"
        )
        return element("path", {"d": drawn, "class": "mark"})

    if family == "full":
        return path((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
    if family == "adapter":
        return path((0, -1.15), (1.1, 0.85), (-1.1, 0.85))
    if family == "layers":
        return path((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0))
    if family == "probe":
        d = 0.75 * r
        drawn = (
            f"M{number(x - d)} {number(y - d)}L{number(x + d)} {number(y + d)}"
            f"M{number(x - d)} {number(y + d)}L{number(x + d)} {number(y - d)}"
        )
        return element("path", {"d": drawn, "class": "cross"})
    if family == "light":
        return path((-1.1, -0.85), (1.1, -0.85), (0, 1.15))
    if family == "variant":
        return element("circle", {"cx": x, "cy": y, "r": 5.0 * size, "class": "hollow"})
    return element("circle", {"cx": x, "cy": y, "r": 7.0 * size, "class": "mark"})
