"""Colours, marks and styles of the report: one palette for page and drawings, light and dark."""

from __future__ import annotations

__all__ = ["FAMILIES", "FIGURE_STYLE", "family_of", "palette_css"]

# name: (light, dark, what it stands for)
FAMILIES = {
    "sparse": ("#b4441f", "#f0895a", "sparse"),
    "variant": ("#b4441f", "#f0895a", "sparse, variants"),
    "full": ("#2b2521", "#efe7db", "full finetuning"),
    "adapter": ("#1f6a70", "#6fbcbc", "LoRA"),
    "layers": ("#66702a", "#b6c265", "whole layers"),
    "light": ("#774a7c", "#c996c9", "prefix, BitFit, SHiRA"),
    "probe": ("#857a70", "#a2978b", "linear probe"),
}

_LIGHT = {
    "paper": "#faf6ef",
    "card": "#fffdf9",
    "sunk": "#f3ece0",
    "ink": "#2b2521",
    "soft": "#6b6057",
    "line": "#e3d8c8",
    "accent": "#b4441f",
    "on-accent": "#fffdf9",
    "on-middle": "#2b2521",
    "good": "#3d6b3a",
    "bad": "#a3302b",
}
_DARK = {
    "paper": "#171411",
    "card": "#1f1b17",
    "sunk": "#27221d",
    "ink": "#efe7db",
    "soft": "#b0a496",
    "line": "#3b342c",
    "accent": "#f0895a",
    "on-accent": "#1b1512",
    "on-middle": "#1b1512",
    "good": "#93c28d",
    "bad": "#f0938c",
}


def family_of(method: str, is_reference: bool = False) -> str:
    """The family, and so the colour and mark, of a method's name."""
    if is_reference or method == "sparse":
        return "sparse"
    for family, prefixes in (
        ("variant", ("sparse",)),
        ("full", ("full",)),
        ("adapter", ("lora", "rslora", "dora", "adapter")),
        ("layers", ("layers",)),
        ("probe", ("probe",)),
    ):
        if method.startswith(prefixes):
            return family
    return "light"


def palette_css() -> str:
    """The variables, for light and, where the reader's system asks for it, dark."""

    def block(base: dict[str, str], column: int) -> str:
        pairs = [f"--{name}:{value}" for name, value in base.items()]
        pairs += [f"--f-{name}:{entry[column]}" for name, entry in FAMILIES.items()]
        return ":root{" + ";".join(pairs) + "}"

    return f"{block(_LIGHT, 0)}@media (prefers-color-scheme:dark){{{block(_DARK, 1)}}}"


_FAMILY_RULES = "".join(f".{name}{{--c:var(--f-{name})}}" for name in FAMILIES)

FIGURE_STYLE = (
    _FAMILY_RULES
    + """
.figure{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif}
.figure{font-variant-numeric:tabular-nums}
.figure .t{fill:var(--ink)}
.figure .soft{fill:var(--soft)}
.figure .strong{font-weight:650}
.figure .on{fill:var(--on-accent)}
.figure .mid{fill:var(--on-middle)}
.figure .name{fill:var(--c)}
.figure .halo{paint-order:stroke;stroke:var(--card);stroke-width:3.5px;stroke-linejoin:round}
.figure .grid{stroke:var(--line);stroke-width:1}
.figure .axis{stroke:var(--soft);stroke-width:1}
.figure .rule{stroke:var(--accent);stroke-width:1.2;stroke-dasharray:4 4;opacity:.75}
.figure .front{fill:none;stroke:var(--soft);stroke-width:1.3;stroke-dasharray:2 4}
.figure .bar{stroke:var(--c);stroke-width:1.3;opacity:.45}
.figure .leader{stroke:var(--soft);stroke-width:.8;opacity:.7}
.figure .mark{fill:var(--c);stroke:var(--card);stroke-width:1.2}
.figure .hollow{fill:var(--card);stroke:var(--c);stroke-width:2}
.figure .cross{fill:none;stroke:var(--c);stroke-width:2.4;stroke-linecap:round}
.figure .dot{fill:var(--c);fill-opacity:.55;stroke:var(--c);stroke-width:1}
.figure .band{fill:var(--c);opacity:.16}
.figure .mean{stroke:var(--c);stroke-width:2.4;stroke-linecap:round}
.figure .zebra{fill:var(--sunk);opacity:.55}
.figure .cell{fill:var(--accent)}
.figure .empty{fill:var(--sunk)}
.figure .frame{fill:none;stroke:var(--line)}
"""
)
