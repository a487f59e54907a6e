"""Strategies that the sweep tests send to other processes."""

import time
from pathlib import Path

import numpy as np
import pandas as pd


def holding(close, days, share):
    "Hold the first name at a share of equity, decided every so many days."
    dates = close.index[::days]
    index = pd.MultiIndex.from_product([dates, close.columns[:1]], names=["date", "symbol"])
    return pd.DataFrame({"weight": np.full(len(dates), share)}, index=index)


def slow(inputs, share):
    "As holding, slowly, leaving a mark in a folder for each call."
    close, folder = inputs
    time.sleep(0.15)
    (Path(folder) / f"{share}-{time.time_ns()}").touch()
    return holding(close, 5, share)


def loud(close, share):
    "Go short of all equity in a name that triples."
    return holding(close, 1000, -share)


def failing(close, share):
    raise ZeroDivisionError("no such share")


def many(inputs, settings):
    "As holding for several settings, leaving a mark in a folder for each call; with seconds to wait, slowly."
    close, folder, seconds = inputs
    time.sleep(seconds)
    if folder:
        (Path(folder) / f"{time.time_ns()}-{len(settings)}").touch()
    return [holding(close, one["days"], one["share"]) for one in settings]
