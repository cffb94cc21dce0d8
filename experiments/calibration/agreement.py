"""How much selections of several runs agree, against random ones of the same structure.

python experiments/calibration/agreement.py SELECTION.json SELECTION.json ... [--json OUT]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sparseft import files
from sparseft.errors import SparseftError
from sparseft.selection import Selection
from sparseft.selection.agreement import Agreement, Overlap, agreement


def table(found: Agreement) -> str:
    """Markdown."""
    lines = [
        f"{found.selections} selections",
        "",
        "| units | mean number | Jaccard | lowest to highest | random |",
        "|---|---|---|---|---|",
    ]
    for name, overlap in _rows(found):
        lines.append(
            f"| {name} | {overlap.units:.0f} | {overlap.jaccard:.3f} | {overlap.lowest:.3f} to "
            f"{overlap.highest:.3f} | {overlap.expected:.3f} ± {overlap.expected_sd:.3f} |"
        )
    return "\n".join(lines)


def _rows(found: Agreement) -> Iterator[tuple[str, Overlap]]:
    yield "all", found.overall
    yield from found.by_kind.items()
    for layer, overlap in found.by_layer.items():
        yield "embedding" if layer < 0 else f"layer {layer}", overlap


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("selections", nargs="+", type=Path, help="selection.json files")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    options = parser.parse_args()
    try:
        found = agreement([Selection.load(path) for path in options.selections])
        if options.json is not None:
            files.write_json(options.json, found.to_dict())
    except SparseftError as error:
        parser.exit(2, f"{error}\n")
    print(table(found))


if __name__ == "__main__":
    main()
