"""Scores of records against gold: fields, the critical alarm, calibration, review, costs.

`score` gives all figures of one run as plain data, `score_runs` those of several seeds, `compare`
the paired differences of two systems, `table` and `field_table` Markdown.
"""

from sparseft.compliance.scores.calibration import calibration, risk_coverage
from sparseft.compliance.scores.compare import compare
from sparseft.compliance.scores.cost import (
    StatedCost,
    TokenPrice,
    api_cost,
    compare_costs,
    cost_per_evaluation,
    token_prices,
)
from sparseft.compliance.scores.intervals import clopper_pearson, wilson
from sparseft.compliance.scores.majority import majority_records, majority_values
from sparseft.compliance.scores.scorers import (
    Scorer,
    check_scorers,
    register_scorer,
    scorer,
    scorer_names,
    scorer_of,
)
from sparseft.compliance.scores.summary import score, score_runs
from sparseft.compliance.scores.tables import field_table, table

__all__ = [
    "Scorer",
    "StatedCost",
    "TokenPrice",
    "api_cost",
    "calibration",
    "check_scorers",
    "clopper_pearson",
    "compare",
    "compare_costs",
    "cost_per_evaluation",
    "field_table",
    "majority_records",
    "majority_values",
    "register_scorer",
    "risk_coverage",
    "score",
    "score_runs",
    "scorer",
    "scorer_names",
    "scorer_of",
    "table",
    "token_prices",
    "wilson",
]
