"""The same report on Weights & Biases: its text and tables, panels over the logged runs, drawings.

`build` only makes the specification; `publish` sends it.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sparseft.errors import ConfigError, ResultError
from sparseft.reporting.findings import METHOD_TEXT, finding, scope
from sparseft.reporting.formats import METRIC_NAMES
from sparseft.reporting.markdown import escape, markdown_table, study_tables
from sparseft.reporting.summary import Study, Summary
from sparseft.reporting.svg import Figure
from sparseft.reporting.tables import overview, tuning_table
from sparseft.reporting.theme import FIGURE_STYLE, palette_css
from sparseft.tracking import TAG_LENGTH, logged_in

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report

__all__ = ["build", "check_login", "log_drawings", "publish"]

_JOB = "report"  # marks the run that carries the drawings
_TITLE_LENGTH = 128  # the service takes no longer one


def check_login() -> None:
    """Refuse early what would fail at the end.

    Raises:
        ConfigError: wandb-workspaces is not installed, or there is no login.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise ConfigError(
            "expected wandb-workspaces for --wandb, got none installed; run "
            "`pip install wandb-workspaces`."
        )
    if not logged_in():
        raise ConfigError(
            "expected a W&B login for --wandb, got none; set WANDB_API_KEY or run `wandb login`."
        )


def build(
    summary: Summary,
    figures: dict[str, list[Figure]],
    resamples: int,
    project: str = "sparseft",
    entity: str = "",
) -> Report:
    """The report's specification; nothing is sent.

    Tables are those of report.md. The panels read the runs that `sparseft.run` logged to the same
    project, grouped by method; the drawings are read from the run that `log_drawings` makes.
    """
    wr = _workspaces()
    blocks: list[Any] = [wr.P(scope(summary) + "."), wr.TableOfContents()]
    blocks += [wr.CalloutBlock(note) for note in summary.notes]
    table = overview(summary)
    if table is not None:
        blocks += [wr.H1("All data sets"), wr.MarkdownBlock(markdown_table(table))]
    for study in summary.studies:
        blocks += _study(wr, study, figures[study.label])
    blocks += [wr.H1("How to read this"), wr.P(METHOD_TEXT.format(resamples=resamples))]
    blocks.append(wr.UnorderedList(list(summary.environments)))
    return wr.Report(
        project=project,
        entity=entity,
        title=f"{summary.title}: sparse finetuning"[:_TITLE_LENGTH],
        description=scope(summary),
        blocks=blocks,
        width="fluid",
    )


def _workspaces() -> Any:
    with warnings.catch_warnings():
        # It is built on an older style of pydantic, which nobody here can change.
        warnings.simplefilter("ignore")
        import wandb_workspaces.reports.v2 as wr
    return wr


def _study(wr: Any, study: Study, figures: list[Figure]) -> list[Any]:
    blocks: list[Any] = [
        wr.H1(study.label),
        wr.P(finding(study)),
        *[wr.MarkdownBlock(markdown_table(table)) for table in study_tables(study)],
    ]
    blocks += [wr.CalloutBlock(note) for note in study.notes]
    blocks.append(_panels(wr, study))
    for title, is_map in (("Score, cost and seeds", False), ("Where the selection lies", True)):
        chosen = [figure for figure in figures if figure.is_map == is_map]
        if chosen:
            blocks += [wr.H2(title), _drawings(wr, chosen)]
            blocks += [wr.P(figure.caption) for figure in chosen]
    if study.examples:
        blocks += [wr.H2("What the tokens say"), wr.MarkdownBlock(_examples(study))]
    blocks += [wr.H2("Learning rates tried"), wr.MarkdownBlock(markdown_table(tuning_table(study)))]
    return blocks


def _panels(wr: Any, study: Study) -> Any:
    """Charts that W&B draws itself, over the runs that carry this data set's tag."""
    metric = f"test/{study.metric}"
    name = METRIC_NAMES[study.metric]
    runs = wr.Runset(
        name=study.label,
        filters=f"Tags in [{study.data[:TAG_LENGTH]!r}]",
        groupby=["config.method.name"],
    )
    return wr.PanelGrid(
        runsets=[runs],
        panels=[
            wr.ScatterPlot(
                title=f"{name} against step time",
                x=wr.SummaryMetric("cost/step_ms_median"),
                y=wr.SummaryMetric(metric),
                layout=wr.Layout(x=0, y=0, w=12, h=9),
            ),
            wr.BarPlot(
                title=f"{name} by method",
                metrics=[wr.SummaryMetric(metric)],
                groupby=wr.Config("method.name"),
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                layout=wr.Layout(x=12, y=0, w=12, h=9),
            ),
        ],
    )


def _drawings(wr: Any, figures: list[Figure]) -> Any:
    runs = wr.Runset(name="drawings", filters=f"JobType = '{_JOB}'")
    return wr.PanelGrid(
        runsets=[runs],
        hide_run_sets=True,
        panels=[
            wr.MediaBrowser(
                title=figure.title,
                media_keys=[_key(figure)],
                num_columns=1,
                layout=wr.Layout(x=0, y=12 * place, w=24, h=12),
            )
            for place, figure in enumerate(figures)
        ],
    )


def _key(figure: Figure) -> str:
    return f"figures/{figure.name}"


def _examples(study: Study) -> str:
    lines = []
    for entry in study.examples:
        pairs = zip(entry["tokens"], entry["saliency"], strict=True)
        text = " ".join(f"**{escape(t)}**" if w >= 1.5 else escape(t) for t, w in pairs)
        lines.append(f"- {text} → {escape(str(entry['prediction']))}")
    return "\n".join(lines)


def log_drawings(
    figures: dict[str, list[Figure]],
    folder: Path,
    project: str = "sparseft",
    entity: str = "",
    mode: Literal["online", "offline"] = "online",
) -> None:
    """Log each drawing as HTML media of one run, which the report's media panels show."""
    import wandb

    style = palette_css() + FIGURE_STYLE
    with wandb.init(
        project=project,
        entity=entity or None,
        name="report drawings",
        job_type=_JOB,
        dir=str(folder),
        mode=mode,
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
    ) as run:
        run.log(
            {
                _key(figure): wandb.Html(figure.standalone(style), inject=False)
                for listed in figures.values()
                for figure in listed
            }
        )


def publish(
    summary: Summary,
    figures: dict[str, list[Figure]],
    resamples: int,
    folder: Path,
    project: str = "sparseft",
    entity: str = "",
) -> str:
    """Send drawings and report; its address.

    Raises:
        ConfigError: no login, or wandb-workspaces is missing.
        ResultError: the service refused or could not be reached.
    """
    check_login()
    try:
        if not entity:
            import wandb

            entity = str(wandb.Api().default_entity)
        log_drawings(figures, folder, project, entity)
        report = build(summary, figures, resamples, project, entity).save()
        return str(report.url)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ResultError(
            f"expected to publish the report to W&B, got: {reason}; check the network, the project "
            "and the entity. The files on disk are complete."
        ) from error
