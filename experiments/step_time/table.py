"""The tables of this folder's README, made from the records below results/.

    python experiments/step_time/table.py              prints them
    python experiments/step_time/table.py --write      puts them between their marks in README.md

A mark is a comment that names the record, or the folder of a GPU's records.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import FALLBACK, METHODS
from records import EAGER, GRAPHS, load
from shapes import SHAPES

from sparseft import files

__all__ = ["cpu_table", "filled", "gpu_tables"]

_FOLDER = Path(__file__).parent
_MARK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_NOT_MEASURED = "Not measured yet.\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into README.md")
    readme = _FOLDER / "README.md"
    text = filled(readme.read_text(encoding="utf-8"), _FOLDER)
    if parser.parse_args().write:
        print(files.write_text(readme, text))
    else:
        print("\n".join(match.group(0) for match in _MARK.finditer(text)))


def filled(text: str, folder: Path) -> str:
    """`text` with every `<!-- table: results/… -->` followed by the table of these records."""

    def table(match: re.Match[str]) -> str:
        source = folder / match.group(2)
        if source.suffix == ".json":
            content = cpu_table(files.read_json(source)) if source.exists() else _NOT_MEASURED
        else:
            content = gpu_tables(source)
        return match.group(1) + content + match.group(3)

    return _MARK.sub(table, text)


def cpu_table(record: Mapping[str, Any]) -> str:
    """Time, and where the record has them the bytes, of the methods of one model on a CPU."""
    rows = record["methods"]
    full = rows["full"]
    environment = record["environment"]
    sentence = (
        f"{record['data']}, batches of {record['batch_size']}, {record['rounds']} rounds, "
        f"{environment['threads']} threads of one {environment['device']}, torch "
        f"{environment['torch']}, commit {environment['commit'][:7]}."
    )
    header = ["method", "trained", "ms a step", "ratio to full (p20 to p80)", "predicted"]
    measured = "memory" in full
    if measured:
        header += ["kept by forward", "gradients", "optimizer state", "with weights", "of full's"]
        texts, tokens = record["largest_batch"]
        sentence += f" MB of the largest batch, {texts} texts of {tokens} tokens."
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["ratio_median"]):
        cells = [
            row.get("label", METHODS[name].label if name in METHODS else name),
            f"{row['trained_parameters']:,}",
            f"{row['ms_median']:.0f}",
            _ratio(row),
            "" if row["predicted_ratio"] is None else f"{row['predicted_ratio']:.2f}",
        ]
        if measured:
            memory = row["memory"]
            keys = ("forward_bytes", "gradient_bytes", "optimizer_state_bytes", "held_bytes")
            cells += [f"{memory[key] / 1e6:.0f}" for key in keys]
            cells.append(f"{memory['held_bytes'] / full['memory']['held_bytes']:.2f}")
        lines.append(_bold_if_sparse(name, cells))
    return f"{sentence}\n\n{_table(header, lines)}"


def gpu_tables(folder: Path) -> str:
    """A table for each GPU, model and mode below `folder`."""
    parts = []
    for device in sorted(folder.iterdir()) if folder.is_dir() else []:
        found = {(r["model"], r["mode"], r["method"]): r for r in load(device)}
        for model in SHAPES:
            for mode in (EAGER, GRAPHS):
                records = [
                    found[model, mode, method]
                    for method in (FALLBACK, *METHODS)
                    if (model, mode, method) in found
                ]
                if records:
                    parts.append(_gpu_table(records))
    return "\n".join(parts) or _NOT_MEASURED


def _gpu_table(records: Sequence[Mapping[str, Any]]) -> str:
    first = records[0]
    graphs = "with CUDA graphs" if first["mode"] == GRAPHS else "without CUDA graphs"
    commits = sorted({record["environment"]["commit"][:7] for record in records})
    orders = sorted({record["order"] for record in records if "order" in record})
    sentence = (
        f"**{first['model']}, {graphs}**: {first['environment']['device']}, {first['batch']} x "
        f"{first['length']} tokens, {' and '.join(orders) or 'not measured'}, torch "
        f"{first['environment']['torch']}, commit {', '.join(commits)}."
    )
    header = [
        "method", "trained", "ms a step", "ratio to full (p20 to p80)", "tokens/s",
        "peak GiB", "of full's", "optimizer state GiB",
    ]  # fmt: skip
    peaks = {r["method"]: r["memory"]["peak_bytes"] for r in records if r["status"] == "measured"}
    lines = []
    for record in records:
        cells = [record["label"]]
        if record["status"] == "measured":
            peak, full = peaks[record["method"]], peaks.get("full")
            cells += [
                f"{record['trained_parameters']:,}",
                f"{record['ms_median']:.2f}",
                _ratio(record) + ("" if record["reference"] == "full" else " of the fallback"),
                f"{record['tokens_per_second']:,.0f}",
                "" if peak is None else f"{peak / 2**30:.2f}",
                f"{peak / full:.2f}" if peak and full else "",
                f"{record['memory']['optimizer_state_bytes'] / 2**30:.2f}",
            ]
        else:
            reason = record["reason"].splitlines()[0].replace("|", "/")
            cells += ["", f"{record['status']}: {reason}", *[""] * 5]
        lines.append(_bold_if_sparse(record["method"], cells))
    return f"{sentence}\n\n{_table(header, lines)}"


def _ratio(row: Mapping[str, Any]) -> str:
    if row["ratio_median"] is None:
        return ""
    if row["ratio_p20"] == row["ratio_p80"] == 1:
        return "1"
    return f"{row['ratio_median']:.2f} ({row['ratio_p20']:.2f} to {row['ratio_p80']:.2f})"


def _bold_if_sparse(name: str, cells: Sequence[str]) -> list[str]:
    if not name.startswith("sparse"):
        return list(cells)
    return [f"**{cells[0]}**", *cells[1:]]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    main()
