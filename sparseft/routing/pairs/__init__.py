"""How alike contexts should be: what the retriever is finetuned on."""

from sparseft.routing.pairs.expert import expert_grades
from sparseft.routing.pairs.grades import Grades, Pairs, apart_from, draw_pairs
from sparseft.routing.pairs.hardness import hardness_grades, published_hardness
from sparseft.routing.pairs.state import change_similarity, gold_grades, state_grades

__all__ = [
    "Grades",
    "Pairs",
    "apart_from",
    "change_similarity",
    "draw_pairs",
    "expert_grades",
    "gold_grades",
    "hardness_grades",
    "published_hardness",
    "state_grades",
]
