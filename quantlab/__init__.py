"""Right about time, honest about evidence: the names of a day's work. `import quantlab as ql`, then `ql.rank_ic`.

Each name is the one that its module defines, brought when it is first asked for: this import costs nothing. The rest
is in the rooms, `quantlab.features`, `quantlab.backtest` ..., which are imported by their full name.
This file is written by hand, alone in the package; __init__.pyi says the same to editors and type checkers.
"""

import sys
from importlib import import_module

__version__ = "0.2.0"

# A name here is neither that of a room, which an import would put in its place, nor a builtin.
_HOMES = {
    "get_bars": "data.read",
    "feature_set": "features.sets",
    "compute": "features.base",
    "rank": "features.xsection",
    "forward_returns": "labels.forward",
    "triple_barrier": "labels.barrier",
    "rank_ic": "validation.scores",
    "mean_ic": "validation.inference",
    "WalkForward": "validation.splits",
    "PurgedKFold": "validation.splits",
    "walk_forward": "models.base",
    "make_model": "recipe.parts",
    "TopK": "portfolio.weights",
    "Costs": "backtest.costs",
    "from_weights": "backtest.engine",
    "from_orders": "backtest.orders",
    "from_signals": "backtest.signals",
    "from_strategy": "backtest.strategy",
    "summary": "backtest.stats",
    "deflate": "validation.deflate",
    "audit": "core.audit",
    "Recipe": "recipe.spec",
    "run": "recipe.run",
    "decide": "recipe.decide",
    "search": "recipe.search",
    "tearsheet": "report.run",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    "Bring a name from its module, anew each time: what a reload defined is what is given."
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    "List the names of a day's work, and what was imported already."
    return sorted({*globals(), *_HOMES})
