"""Agents of strategy.agent beside the best policy of each world, several seeds each: what they reach, and the spread.

Usage: python bench/agents.py [coin] [merton] [execution] [block] [signal] [leak] [noise] [timid] [--seeds 5]

Each part trains PPO once a seed and holds it against the formula of its world: the fraction of Kelly, the share of
Merton, the cost of Almgren and Chriss (equal parts cost 1), the discounted gain of Garleanu and Pedersen. `block` buys
Coca-Cola in the engine's sessions at the square-root law, beside equal parts, with the settings of `execution`, on the
sessions it learned from and on later ones. `leak` gives
an agent the return that its decision will earn, in the sample's bars, and holds its log growth against hindsight's, on
the sessions it learned from and on later ones. `noise` gives each seed a market of its own in which nothing is to be
foretold and every trade costs, and trades what was learned on fresh bars (twice as many seeds). `timid` is signal and
noise with first trials a third as wide. Trainings are kept by core.cache, so that an interrupted run goes on. What was
chosen by trying was tried on other seeds: noise and leak on 0 and 1, signal on 30 to 32. Results:
bench/results/agents.json, which nbs/strategy/748_agent.ipynb shows.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.core.panel import as_panel
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.strategy.agent import beside_best, seed_spread, train_agent, train_seeds
from quantlab.strategy.environment import (
    BlockWorld,
    CoinWorld,
    ExecutionWorld,
    MertonWorld,
    PortfolioWorld,
    SignalWorld,
    audit_world,
    hindsight_weights,
    play,
    policy_weights,
)

RESULTS = Path(__file__).resolve().parent / "results" / "agents.json"
BANDIT = {"discount": 0.0, "rate": 1e-2, "steps": 30 * 2048}
TRAINING = {
    "coin": BANDIT,
    "merton": BANDIT,
    "execution": {"discount": 1.0, "copies": 128, "stretch": 20, "rate": 5e-3, "hidden": (16,), "spread": 0.2,
                  "steps": 40 * 2560},
    "signal": {"discount": 0.95, "copies": 128, "stretch": 50, "rate": 1e-2, "spread": 0.3, "steps": 120 * 6400},
    "leak": {"discount": 0.5, "copies": 16, "stretch": 30, "rate": 2e-2, "spread": 1.0, "steps": 120 * 480},
    "noise": {"discount": 0.5, "copies": 64, "stretch": 60, "rate": 2e-2, "spread": 1.0, "steps": 80 * 3840},
}  # fmt: skip
COSTS = Costs(1, 5)


def tomorrow(panel: pd.DataFrame) -> pd.DataFrame:
    "The return that the next decision will earn, from its open to the next: the future."
    opens = panel["open"].groupby("symbol")
    move = opens.shift(-2) / opens.shift(-1) - 1
    return pd.DataFrame({"tomorrow": move.clip(-0.01, 0.01) / 0.005}).astype("float64")


def real_world(start: str, end: str, length: int | None = None) -> PortfolioWorld:
    "A name of the sample with the future in the features."
    bars = adjust(sample_bars(["AAPL"], start, end), "total").drop(columns="adj")
    return PortfolioWorld(bars, tomorrow(bars), COSTS, length=length)


def block_world(start: str, end: str) -> BlockWorld:
    "A seventh of a session's volume of Coca-Cola, to be bought in five sessions."
    bars = adjust(sample_bars(["KO"], start, end), "total").drop(columns="adj")
    return BlockWorld(bars, 2e6, since=bars.index.unique("date")[25])


def noise_world(seed: int, sessions: int = 3000, length: int | None = None) -> PortfolioWorld:
    "Two names whose prices are martingales, with two features that are noise, at 20 basis points a trade."
    random = np.random.default_rng([seed, sessions])
    dates = pd.bdate_range("2000-01-03", periods=sessions, unit="us", name="date")
    rows = []
    for symbol in ("A", "B"):
        night, day = 0.003 * random.standard_normal((2, sessions)), 0.004 * random.standard_normal((2, sessions))
        moves = np.stack([night[0] - 0.003**2 / 2, day[0] - 0.004**2 / 2], axis=1).ravel().cumsum().reshape(-1, 2)
        prices = dict(zip(("open", "close"), 100 * np.exp(moves.T), strict=True))
        seen = {"one": night[1] / 0.003, "two": day[1] / 0.004}
        rows.append(pd.DataFrame({"date": dates, "symbol": symbol, **prices, **seen}))
    panel = as_panel(pd.concat(rows))
    return PortfolioWorld(panel[["open", "close"]], panel[["one", "two"]], Costs(5, 15), length=length)


def summary(values: dict) -> dict:
    "Return a figure by seed with its mean, spread and error."
    found = seed_spread(pd.Series(values)).round(5).to_dict()
    return {"by_seed": [round(float(v), 5) for v in values.values()]} | found


def bandit(world: object, name: str, seeds: range) -> dict:
    "Train in a world of one step; return the action beside the formula's, and what it is worth."
    one, agents = np.ones((1, 1)), train_seeds(world, seeds, **TRAINING[name])
    action = {agent.seed: agent.act(one)[0, 0] for agent in agents}
    worth = beside_best(world, agents, world.best, copies=20_000)["ratio"]
    return {"best": float(world.best(one)[0, 0]), "action": summary(action), "ratio": summary(worth.to_dict())}


def known(world: object, name: str, seeds: range, **changed: float) -> dict:
    "Train in a world of several steps; return what an episode pays over what the best policy is paid."
    discount, settings = TRAINING[name]["discount"], TRAINING[name] | changed
    table = beside_best(world, train_seeds(world, seeds, **settings), world.best, discount)
    return {"best": float(table["best"].iloc[0]), "ratio": summary(table["ratio"].to_dict())}


def block(seeds: range) -> dict:
    "Train to buy a block; return its cost over that of equal parts, before and after."
    world = block_world("2013-01-02", "2015-12-31")
    agents, found = train_seeds(world, seeds, **TRAINING["execution"]), {}
    for name, span in {"learned on": world, "later": block_world("2016-01-04", "2016-12-30")}.items():
        table = beside_best(span, agents, span.best)
        found[name] = {"best": float(table["best"].iloc[0]), "ratio": summary(table["ratio"].to_dict())}
    return found


def leak(seeds: range) -> dict:
    "Train with the future in the features; return log growth over hindsight's, and what the audit says."
    world, found = real_world("2013-01-02", "2015-12-31", 60), {}
    spans = {"learned on": real_world("2013-01-02", "2015-12-31"), "later": real_world("2016-01-04", "2016-12-30")}
    agents = train_seeds(world, seeds, **TRAINING["leak"])
    for name, span in spans.items():
        growth = lambda weights, span=span: float(np.log(from_weights(weights, span.bars, COSTS).equity).diff().sum())
        best = growth(hindsight_weights(span))
        ratio = {agent.seed: growth(policy_weights(span, agent.act)) / best for agent in agents}
        found[name] = {"best": best, "ratio": summary(ratio)}
    bars = spans["later"].bars
    verdict = audit_world(lambda panel: PortfolioWorld(panel, tomorrow(panel), COSTS), bars)
    return found | {"audit": [verdict.status, verdict.column]}


def noise(seeds: range, **changed: float) -> dict:
    "Train on noise at a cost, each seed on its own; return turnover a year and the mean reward on fresh noise."
    turnover, mean, errors, tried = {}, {}, {}, {}
    settings = TRAINING["noise"] | changed
    trial = 0.5 * settings["spread"]
    for seed in seeds:
        agent = train_agent(noise_world(seed, length=60), seed=seed, **settings)
        fresh, trials = noise_world(seed, 1500), np.random.default_rng(seed)
        turnover[seed], reward = traded(fresh, agent.act)
        tried[seed] = traded(fresh, lambda seen, draws=trials: 0.5 + trial * draws.standard_normal((1, 3)))[0]
        mean[seed], errors[seed] = reward.mean(), reward.std(ddof=1) / np.sqrt(len(reward))
    beyond = sum(mean[seed] < -errors[seed] for seed in mean)
    return {"turnover": summary(turnover), "turnover_of_first_trials": summary(tried),
            "mean_reward_bp": summary({s: 1e4 * m for s, m in mean.items()}),
            "error_bp": [round(1e4 * e, 3) for e in errors.values()],
            "worse_than_cash_by_an_error": int(beyond)}  # fmt: skip


def traded(world: PortfolioWorld, policy: Callable) -> tuple[float, np.ndarray]:
    "Return what a policy trades a year over its wealth, and its rewards."
    episode = play(world, policy)
    asked = iter(episode.action[:, 0])
    trades = from_weights(policy_weights(world, lambda seen: next(asked)[None]), world.bars, world.costs).trades
    value = (trades["quantity"] * trades["price"]).abs().sum() / world.cash
    return float(value) / world.episode * 252, episode.reward[:, 0]


def timid(seeds: range) -> dict:
    "Train with first trials a third as wide; return what the fading signal and noise come to."
    third = {name: TRAINING[name]["spread"] / 3 for name in ("signal", "noise")}
    quiet = noise(range(100, 100 + len(seeds)), spread=third["noise"])
    return {"signal": known(SignalWorld(), "signal", seeds, spread=third["signal"])["ratio"],
            "noise": quiet["turnover"]}  # fmt: skip


PARTS = {
    "coin": lambda seeds: bandit(CoinWorld(tosses=256), "coin", seeds),
    "merton": lambda seeds: bandit(MertonWorld(pairs=64), "merton", seeds),
    "execution": lambda seeds: known(ExecutionWorld(), "execution", seeds),
    "block": block,
    "signal": lambda seeds: known(SignalWorld(), "signal", seeds),
    "leak": lambda seeds: leak(range(10, 10 + len(seeds))),
    "noise": lambda seeds: noise(range(100, 100 + 2 * len(seeds))),
    "timid": timid,
}


def main(parts: list[str] = [*PARTS], seeds: int = 5) -> dict:
    "Measure the parts and return all that is known of them."
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["parts"] if RESULTS.exists() else {}
    for part in parts:
        began = time.process_time()
        found[part] = PARTS[part](range(seeds)) | ({"settings": TRAINING[part]} if part in TRAINING else {})
        print(part, json.dumps(found[part]), round(time.process_time() - began), "s of processor", flush=True)
    libraries = {name: version(name).split("+")[0] for name in ("torch", "stable-baselines3", "gymnasium")}
    known_parts = {part: found[part] for part in PARTS if part in found}
    return {"name": "agents", "seeds": seeds, "libraries": libraries, "parts": known_parts}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there is {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        result = main([part], given.seeds)
        if given.seeds >= 5:
            RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
