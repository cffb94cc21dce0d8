"""Reading with an encoder: a transcript's segments are tagged, and its ids and sums pointed at."""

from sparseft.compliance.encoder.chains import Chains
from sparseft.compliance.encoder.plan import FieldPlan, plan_of
from sparseft.compliance.encoder.reader import EncoderReader
from sparseft.compliance.encoder.rows import Read, read, read_example

__all__ = ["Chains", "EncoderReader", "FieldPlan", "Read", "plan_of", "read", "read_example"]
