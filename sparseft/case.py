"""`python -m sparseft.case RUN …`: a case-study page of finished runs of a sparse method.

Writes case.html (one file, no network), case.md with figures/*.svg, and case.json. For each run:
the constructs of its training texts, the most salient words of each class, three highlighted test
texts, where the selected units lie, and what ablating a class's units does, against random ones.

Everything is computed before anything is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparseft import files
from sparseft.errors import ConfigError, SparseftError

if TYPE_CHECKING:
    from sparseft.case_study.settings import CaseSettings

__all__ = ["main", "write_case_study"]

_HELP = {
    "classes": "shown classes, those with the most scored test rows",
    "constructs": "constructs listed for a class",
    "mined_rows": "training rows that constructs are mined from",
    "words": "salient words listed for a class",
    "least_texts": "texts of a class that a word must stand in",
    "saliency_rows": "training rows looked at for salient words",
    "test_rows": "test rows that are predicted",
    "class_rows": "training rows of a class behind its units' sensitivity",
    "share": "of the selected units that is ablated",
    "draws": "random draws of units for each class",
    "batch_size": "rows of a forward",
    "seed": "of all draws",
}


def write_case_study(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    settings: CaseSettings | None = None,
    data_root: str | Path | None = None,
    device: str = "auto",
    title: str = "",
) -> list[str]:
    """Write the case study of one run or several.

    Args:
        runs: folders of finished runs of a sparse method, with config.json and delta/.
        out: where to write; `RUN/case_study` of the only run where None.
        settings: sizes; they bound the time.
        data_root: where the data files lie now, if not where the runs found them.
        device: "auto", "cpu", "cuda", …
        title: of the page; made of the data sets' names where empty.

    Returns:
        The paths that were written.

    Raises:
        ConfigError: no run, one twice, several without `out`, or not one of a sparse method.
        DataError: the data are missing, or not those that a run was trained on.
        DeltaError: a damaged delta, or one of another base model.
        ModelError: the base model is missing.
        SparseftError: the files cannot be written.
    """
    from sparseft.case_study.figures import CASE_FIGURE_STYLE, case_figures
    from sparseft.case_study.markdown import markdown_page
    from sparseft.case_study.page import html_page
    from sparseft.case_study.record import record_of
    from sparseft.case_study.settings import CaseSettings
    from sparseft.case_study.source import open_run
    from sparseft.case_study.study import study_of
    from sparseft.case_study.wording import labels_of
    from sparseft.reporting.formats import join_words
    from sparseft.reporting.theme import FIGURE_STYLE, palette_css

    folder = _destination(runs, out)
    settings = settings or CaseSettings()
    # One after the other, so that one model is in memory at a time.
    studies = [
        study_of(open_run(run, data_root=data_root, device=device), settings) for run in runs
    ]
    labels = labels_of(studies)
    figures = {
        label: case_figures(study, label) for study, label in zip(studies, labels, strict=True)
    }
    if not title:
        names = join_words(list(dict.fromkeys(study.name for study in studies)))
        title = f"What was learned on {names}"
    style = palette_css() + FIGURE_STYLE + CASE_FIGURE_STYLE
    records = [record_of(study, settings) for study in studies]
    content = {
        "case.html": html_page(studies, figures, settings, title),
        "case.md": markdown_page(studies, figures, settings, title, "figures"),
        "case.json": json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        **{
            f"figures/{figure.name}.svg": figure.standalone(style)
            for drawn in figures.values()
            for figure in drawn
        },
    }
    return [str(files.write_text(folder / name, text)) for name, text in content.items()]


def _destination(runs: Sequence[str | Path], out: str | Path | None) -> Path:
    if not runs:
        raise ConfigError("expected the folder of a run, got none; give one or more.")
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise ConfigError("expected different runs, got one twice; give each once.")
    if out is not None:
        return Path(out)
    if len(runs) > 1:
        raise ConfigError(
            f"expected a folder to write to for {len(runs)} runs, got none; give --out DIR."
        )
    return Path(runs[0]) / "case_study"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 2 on a user error."""
    options = vars(_parser().parse_args(arguments))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("sparseft.case_study").setLevel(logging.INFO)
    try:
        from sparseft.case_study.settings import CaseSettings

        sizes = {field.name: options[field.name] for field in dataclasses.fields(CaseSettings)}
        written = write_case_study(
            options["runs"],
            options["out"],
            settings=CaseSettings(**sizes),
            data_root=options["data_root"],
            device=options["device"],
            title=options["title"],
        )
    except SparseftError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; nothing was written\n")
        return 130
    drawings = [path for path in written if path.endswith(".svg")]
    for path in written:
        if path not in drawings:
            sys.stdout.write(f"{path}\n")
    sys.stdout.write(f"{len(drawings)} drawings in {Path(drawings[0]).parent}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    # It loads no torch, which `--help` need not wait for.
    from sparseft.case_study.settings import CaseSettings

    parser = argparse.ArgumentParser(
        prog="python -m sparseft.case",
        description="A page on what a sparsely trained model learned and where it sits.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, with delta/ in it")
    parser.add_argument("--out", metavar="DIR", help="where to write (default RUN/case_study)")
    parser.add_argument("--title", default="", help="of the page (default: by the data sets)")
    parser.add_argument("--data-root", metavar="DIR", help="where the data files lie now")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    sizes = parser.add_argument_group("sizes, which bound the time")
    for field in dataclasses.fields(CaseSettings):
        sizes.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar="N" if isinstance(field.default, int) else "SHARE",
            help=f"{_HELP[field.name]} (default %(default)s)",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
