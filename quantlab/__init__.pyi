"""The names of __init__.py, as editors and type checkers see them."""

from .backtest.costs import Costs as Costs
from .backtest.engine import from_weights as from_weights
from .backtest.orders import from_orders as from_orders
from .backtest.signals import from_signals as from_signals
from .backtest.stats import summary as summary
from .backtest.strategy import from_strategy as from_strategy
from .core.audit import audit as audit
from .data.read import get_bars as get_bars
from .features.base import compute as compute
from .features.sets import feature_set as feature_set
from .features.xsection import rank as rank
from .labels.barrier import triple_barrier as triple_barrier
from .labels.forward import forward_returns as forward_returns
from .models.base import walk_forward as walk_forward
from .portfolio.weights import TopK as TopK
from .recipe.decide import decide as decide
from .recipe.run import run as run
from .recipe.search import search as search
from .recipe.spec import Recipe as Recipe
from .recipe.parts import make_model as make_model
from .report.run import tearsheet as tearsheet
from .validation.deflate import deflate as deflate
from .validation.inference import mean_ic as mean_ic
from .validation.scores import rank_ic as rank_ic
from .validation.splits import PurgedKFold as PurgedKFold
from .validation.splits import WalkForward as WalkForward

__version__: str
