"""A run of `task=routing`: routers between two models are compared, and one is saved."""

from sparseft.training.routing.pipeline import CHOSEN, RoutedRun, execute_routing

__all__ = ["CHOSEN", "RoutedRun", "execute_routing"]
