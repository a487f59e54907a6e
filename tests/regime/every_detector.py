"Every detector that the room has, found by looking: a new one is tested by being there."

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd

import quantlab.regime
from quantlab.regime.base import Detector


def found() -> list[type[Detector]]:
    "Return the public detectors of the room."
    modules = [
        importlib.import_module(f"quantlab.regime.{m.name}") for m in pkgutil.iter_modules(quantlab.regime.__path__)
    ]
    kinds = {
        kind
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Detector) and kind is not Detector and name in getattr(module, "__all__", [])
    }
    return sorted(kinds, key=lambda kind: kind.__name__)


DETECTORS = found()
ONE_COLUMN = ("MarkovSwitching",)  # detectors of a single series


def small(kind: type[Detector]) -> Detector:
    "Make a detector of two states that is quick to fit."
    settings = kind().get_params()
    quick = {"n_states": 2, "n_starts": 2, "n_iter": 50, "penalty": 5.0}
    if kind.__name__ == "KernelCut":  # a higher fine leaves breaks from storm to calm uncut here
        return kind(penalty=2.0)
    return kind(**{name: value for name, value in quick.items() if name in settings})


def inputs_of(close: pd.Series) -> pd.DataFrame:
    "Return what states are told by: the return, and the size of the last ten."
    moves = np.log(close).diff()
    return pd.DataFrame({"log_return": moves, "log_vol_10": 0.5 * np.log((moves**2).rolling(10).mean())}).dropna()


def read_by(kind: type[Detector], X: pd.DataFrame) -> pd.DataFrame:
    "Return the columns that a detector takes."
    return X.iloc[:, :1] if kind.__name__ in ONE_COLUMN else X
