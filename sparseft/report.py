"""`python -m sparseft.report RESULTS_DIR`: results to tables, drawings, a page, a W&B report.

Writes report.md, report.html, summary.csv and figures/*.svg; with --wandb the same goes to W&B.
Everything is computed before anything is written.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from sparseft import files
from sparseft.errors import ConfigError, SparseftError

__all__ = ["main", "write_report"]


def write_report(
    results: str | Path,
    out: str | Path | None = None,
    *,
    reference: str = "sparse",
    skip_damaged: bool = False,
    resamples: int = 10_000,
    title: str = "",
    wandb: bool = False,
    project: str = "sparseft",
    entity: str = "",
) -> list[str]:
    """Write the report of all results below a folder.

    Args:
        results: where to look for results.
        out: where to write; `RESULTS/report` where None.
        reference: the method that the others are compared with.
        skip_damaged: leave damaged records out and name them.
        resamples: of the bootstrap.
        title: of the report; from the experiments' names where empty.
        wandb: also publish it.
        project: on W&B.
        entity: on W&B; the account's default where empty.

    Returns:
        What was written: paths, and the address on W&B.

    Raises:
        ResultError: nothing to report, a damaged record, or results that cannot be compared.
        ConfigError: an unknown reference, or no login for W&B.
        SparseftError: the files cannot be written.
    """
    from sparseft.reporting import wandb_report
    from sparseft.reporting.collect import collect
    from sparseft.reporting.figures import study_figures
    from sparseft.reporting.markdown import markdown_report
    from sparseft.reporting.page import html_report
    from sparseft.reporting.summary import summarise
    from sparseft.reporting.tables import summary_csv
    from sparseft.reporting.theme import FIGURE_STYLE, palette_css

    if resamples < 1:
        raise ConfigError(f"expected 1 resample or more, got {resamples}; change --resamples.")
    if wandb:
        wandb_report.check_login()
    collection = collect(results, skip_damaged)
    summary = summarise(collection, reference, resamples, title)
    figures = {study.label: study_figures(study) for study in summary.studies}
    style = palette_css() + FIGURE_STYLE
    content = {
        "report.md": markdown_report(summary, figures, "figures", resamples),
        "report.html": html_report(summary, figures, resamples),
        "summary.csv": summary_csv(summary),
        **{
            f"figures/{figure.name}.svg": figure.standalone(style)
            for listed in figures.values()
            for figure in listed
        },
    }
    folder = Path(results) / "report" if out is None else Path(out)
    written = [str(files.write_text(folder / name, text)) for name, text in content.items()]
    if wandb:
        written.append(wandb_report.publish(summary, figures, resamples, folder, project, entity))
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 2 on a user error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        written = write_report(
            options.results,
            options.out,
            reference=options.reference,
            skip_damaged=options.skip_damaged,
            resamples=options.resamples,
            title=options.title,
            wandb=options.wandb,
            project=options.project,
            entity=options.entity,
        )
    except SparseftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    drawings = [path for path in written if path.endswith(".svg")]
    for path in written:
        if path not in drawings:
            print(path)
    print(f"{len(drawings)} drawings in {Path(drawings[0]).parent}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparseft.report", description="Tables, drawings and a page from results."
    )
    parser.add_argument("results", metavar="RESULTS_DIR", help="a folder with results below it")
    parser.add_argument("--out", metavar="DIR", help="where to write (default RESULTS_DIR/report)")
    parser.add_argument("--reference", default="sparse", metavar="METHOD", help="compared with")
    parser.add_argument("--title", default="", help="of the report")
    parser.add_argument(
        "--skip-damaged", action="store_true", help="leave damaged records out and name them"
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, metavar="N", help="of the bootstrap"
    )
    parser.add_argument("--wandb", action="store_true", help="also publish it on W&B")
    parser.add_argument("--project", default="sparseft", help="on W&B")
    parser.add_argument("--entity", default="", help="on W&B; default: the account's own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
