"""Training: the one loop of all methods, what it measures, and the way of one run."""

from sparseft.training.checkpoint import CheckpointStore
from sparseft.training.evaluate import Evaluation, evaluate, metrics_of
from sparseft.training.head import HeadWarmup, warm_up_head
from sparseft.training.loop import train
from sparseft.training.pipeline import RunOutcome, TrainedRun, execute, run_folder
from sparseft.training.prefix_cache import PrefixCache
from sparseft.training.progress import TrainOutcome
from sparseft.training.record import MetricsLog

__all__ = [
    "CheckpointStore",
    "Evaluation",
    "HeadWarmup",
    "MetricsLog",
    "PrefixCache",
    "RunOutcome",
    "TrainOutcome",
    "TrainedRun",
    "evaluate",
    "execute",
    "metrics_of",
    "run_folder",
    "train",
    "warm_up_head",
]
