"""What can be trained, what it costs, and the choice itself."""

from sparseft.selection.budget import Budget
from sparseft.selection.layout import LayerLayout, ModelLayout, backbone_of, head_names, layout_of
from sparseft.selection.selection import Choice, ModuleSelection, Selection, VectorSelection
from sparseft.selection.units import UnitGroup, unit_groups

__all__ = [
    "Budget",
    "Choice",
    "LayerLayout",
    "ModelLayout",
    "ModuleSelection",
    "Selection",
    "UnitGroup",
    "VectorSelection",
    "backbone_of",
    "head_names",
    "layout_of",
    "unit_groups",
]
