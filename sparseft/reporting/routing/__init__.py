"""The page of a routing run: curves, figures, and turns to look at."""

from sparseft.reporting.routing.page import write_routing_page

__all__ = ["write_routing_page"]
