"""The page of a compliance evaluation."""

from sparseft.reporting.compliance.cases import Arm, Case
from sparseft.reporting.compliance.page import Costs, compliance_page, write_compliance_page

__all__ = ["Arm", "Case", "Costs", "compliance_page", "write_compliance_page"]
