"""A second broker in plain Python, written from the rules as the notebooks state them: no arrays, no kernel, no shared
code.

It is slow and reads like the rules. tests/backtest/test_slow_broker.py holds the event loop against it.
"""

from dataclasses import dataclass, field
from math import floor, inf, isnan, nan

CASH_RESERVE, DUST = 1e-9, 1e-8  # share of cash that buys leave; share of an order that counts as nothing
STAGES = ("open", "stops", "limits", "born", "vwap", "close")
INSIDE = ("stops", "limits", "born")


@dataclass
class Bar:
    "One session of one name; a field that is None means that there is no bar."

    open: float | None
    high: float
    low: float
    close: float
    vwap: float
    volume: float
    split: float = 1.0
    dividend: float = 0.0
    rate: float = 1.0
    borrow: float = 0.0
    funding: float = 0.0


@dataclass
class Order:
    "What a client asks for, and what has become of it."

    name: str
    type: str
    price: float
    valid: int
    target: bool = False
    reduce: bool = False
    share: float = nan  # of a bracket's order: its distance from the price paid
    quantity: float = 0.0
    left: float = 0.0
    filled: float = 0.0
    goal: float = nan
    first: int = 0  # session from which it may fill
    sessions: int = 0  # that it has seen
    born: int = -1  # session inside which it came to life or grew
    open: bool = False
    legs: list["Order"] = field(default_factory=list)
    parent: "Order | None" = None


@dataclass
class SlowBroker:
    "Keep one account from close to close."

    bars: list[dict[str, Bar | None]]  # by session, by name
    years: list[float]  # since the session before
    rules: object
    costs: object
    cash: float
    fills: list[tuple] = field(
        default_factory=list
    )  # session, name, quantity, price, commission, market's price in the bar's money
    orders: list[Order] = field(default_factory=list)
    book: list[Order] = field(default_factory=list)  # that may still fill
    log: list[tuple[float, float]] = field(default_factory=list)  # cash, equity by close

    def __post_init__(self):
        names = list(self.bars[0])
        self.held, self.mark, self.silent, self.rate, self.fee = (
            dict.fromkeys(names, x) for x in (0.0, None, 0, 1.0, 0.0)
        )
        for name in names:  # before its first bar a name has its first rate
            first = next((day[name].rate for day in self.bars if day[name]), 1.0)
            self.rate[name] = first
            self.fee[name] = self.costs.borrow_bps / 1e4

    # the evening: orders are decided and sized
    def send(self, t, name, size, kind, type_, price, valid, reduce, stop_loss, take_profit):
        order = Order(name, type_, price, valid, target=kind == "target", reduce=reduce, first=t + 1)
        held, worth = self.held[name], self.mark[name]
        money = None if worth is None else worth * self.rate[name]
        equity = self.log[-1][1]
        if kind == "shares":
            order.quantity = size
        elif kind == "target" and size == 0:
            order.quantity = -held
        elif money is None:
            order.quantity = nan
        elif kind == "value":
            order.quantity = size / money
        elif kind == "percent":
            order.quantity = size * equity / money
        else:
            order.quantity = size * equity / money - held
            if abs(order.quantity) * money < 1e-12 * equity:
                order.quantity = 0.0
        order.left = 0.0 if isnan(order.quantity) else order.quantity
        if order.target:
            order.goal = held + order.quantity
            for other in self.book:  # a target takes the place of what was asked before, and of its own copy
                same = (
                    other.target
                    and other.first == t + 1
                    and other.type == type_
                    and (other.price == price or isnan(price))
                )
                if other.name == name and other.parent is None and (other.first <= t or same):
                    other.left = 0.0
        elif reduce:
            order.goal = 0.0
        for share, leg_type, sign in ((stop_loss, "stop", -1), (take_profit, "limit", 1)):
            if not isnan(share):
                order.legs.append(
                    Order(name, leg_type, nan, 0, reduce=True, goal=0.0, share=sign * share, parent=order)
                )
        self.orders += [order, *order.legs]
        if order.left:
            order.open = True
            self.book.append(order)

    # the night: splits, dividends, fees, interest
    def night(self, t):
        cash = self.cash
        paid = cash * self.costs.interest_bps / 1e4 * self.years[t]
        for name, held in self.held.items():
            bar = self.bars[t][name]
            split, dividend = (bar.split, bar.dividend) if bar else (1.0, 0.0)
            if held:
                value = held * self.mark[name] * self.rate[name]
                if held < 0:
                    paid -= -value * self.fee[name] * self.years[t]
                paid -= value * self.costs.funding_bps / 1e4 * self.years[t]
                paid += held * split * dividend * self.rate[name]
                self.held[name] = held * split
            if self.mark[name] is not None:
                self.mark[name] /= split
            for order in self.book:
                if order.name == name:
                    order.quantity, order.left, order.filled, order.goal = (
                        x * split for x in (order.quantity, order.left, order.filled, order.goal)
                    )
                    order.price /= split
        self.cash += paid

    # one order in one stage
    def market_price(self, t, stage, order, bar):
        "Return the market's price for an order, None where it may not trade."
        buys, price = order.left > 0, order.price
        if order.type in ("market", "close"):
            when = "close" if order.type == "close" else self.rules.fill
            return getattr(bar, when) if stage == when else None
        if order.type == "limit":
            if stage == "open" and (bar.open <= price if buys else bar.open >= price):
                return bar.open
            touched = (
                bar.low <= price * (1 - self.rules.through) if buys else bar.high >= price * (1 + self.rules.through)
            )
            if stage == "limits" and touched:
                return min(bar.open, price) if buys else max(bar.open, price)
            return None
        if stage == "open" and (bar.open >= price if buys else bar.open <= price):
            return bar.open
        touched = bar.high >= price if buys else bar.low <= price
        if stage == "stops" and touched:
            return max(bar.open, price) if buys else min(bar.open, price)
        if stage == "born" and order.born == t and touched:
            return price
        return None

    def towards(self, goal, held, quantity):
        "Return what of a quantity does not lead past the goal."
        if isnan(goal):
            return quantity
        gap = goal - held
        if abs(gap) <= 1e-12 * (abs(goal) + abs(held)) or gap * quantity <= 0:
            return 0.0
        return quantity if abs(gap) + 1e-9 * (abs(goal) + abs(held)) >= abs(quantity) else gap

    def lots(self, quantity, held):
        "Round towards zero to whole lots; the rest of a holding may be sold as it is."
        lot = self.rules.lot
        if not lot or quantity == -held:
            return quantity
        return (1 if quantity > 0 else -1) * floor(abs(quantity) / lot + 1e-9) * lot

    def room(self, stage, order, bar, used):
        "Return the shares that the session's volume leaves."
        room = inf if self.rules.participation == inf else max(self.rules.participation * bar.volume - used, 0.0)
        if order.type == "limit" and stage == "limits" and self.rules.queue > 0:
            beyond = order.price - bar.low if order.left > 0 else bar.high - order.price
            share = beyond / (bar.high - bar.low) if bar.high > bar.low else 1.0
            room = min(room, max(bar.volume * max(share - self.rules.queue, 0.0) - used, 0.0))
        return room

    def paid(self, order, quantity, price, rate):
        "Return the price paid and the commission."
        side, slip = (1 if quantity > 0 else -1), (self.costs.slippage_bps + self.costs.half_spread_bps) / 1e4
        cost = price * (1 + side * slip)
        if order is not None and order.type == "limit":
            cost = min(cost, order.price) if side > 0 else max(cost, order.price)
        fee = abs(quantity) * (cost * rate * self.costs.commission_bps / 1e4 + self.costs.per_share)
        return cost, max(fee, self.costs.minimum) if quantity else 0.0

    @staticmethod
    def closing(held, quantity):
        "Return the part of a quantity that brings a holding towards zero."
        if held * quantity >= 0:
            return 0.0
        return quantity if abs(quantity) <= abs(held) else -held

    # one stage
    def stage(self, t, stage, used, purse, now):
        plan, asks = dict(self.held), []
        for buys in (False, True):
            for order in list(self.book):
                bar = self.bars[t][order.name]
                if not order.left or (order.left > 0) != buys or t < order.first or bar is None:
                    continue
                price = self.market_price(t, stage, order, bar)
                if price is None:
                    continue
                wanted = self.towards(order.goal, plan[order.name], order.left)
                room = self.room(stage, order, bar, used[order.name])
                if abs(wanted) > room:
                    room = room if room > 1e-12 * abs(order.quantity) else 0.0  # dust is no room
                    wanted = room if wanted > 0 else -room
                wanted = self.lots(wanted, plan[order.name])
                if wanted:
                    used[order.name] += abs(wanted)
                    plan[order.name] += wanted
                    asks.append((order, wanted, price))
        rate = {n: (self.bars[t][n].rate if stage == "close" and self.bars[t][n] else self.rate[n]) for n in self.held}
        g = self.gross_share(asks, rate, now)
        self.play(t, stage, [a for a in asks if a[1] < 0], g, 1.0, rate, used)
        k, before = self.cash_share([a for a in asks if a[1] > 0], g, min(self.cash, purse), rate), self.cash
        self.play(t, stage, [a for a in asks if a[1] > 0], g, k, rate, used)
        return before - self.cash

    def gross_share(self, asks, rate, now):
        "Return the share of what opens positions that the gross limit allows."
        if self.rules.max_gross == inf:
            return 1.0
        value = {n: q * now[n] * rate[n] for n, q in self.held.items() if q}
        equity, gross, opening, plan = (
            self.cash + sum(value.values()),
            sum(map(abs, value.values())),
            0.0,
            dict(self.held),
        )
        for order, wanted, price in asks:
            n = order.name
            part = self.closing(plan[n], wanted)
            gross -= abs(part) * (now[n] or 0.0) * rate[n]
            opening += abs(wanted - part) * price * rate[n]
            plan[n] += wanted
        room = self.rules.max_gross * equity - gross
        room = room if room > CASH_RESERVE * self.rules.max_gross * equity else 0.0  # dust is no room
        return room / opening if opening > room else 1.0

    def scaled(self, order, wanted, g, k):
        "Return an order's shares after both factors; a stop closes whatever the cash."
        if g == k == 1.0:
            return wanted
        held = self.held[order.name]
        part = self.closing(held, wanted)
        rest = (wanted - part) * g
        return self.lots(part + rest * k if order.type == "stop" else (part + rest) * k, held)

    def cash_share(self, asks, g, cash, rate):
        "Return the share of the buys that cash allows."

        def bill(k):
            total = 0.0
            for order, wanted, price in asks:
                quantity = self.scaled(order, wanted, g, k)
                cost, fee = self.paid(order, quantity, price, rate[order.name])
                total += quantity * cost * rate[order.name] + fee
            return total

        budget, need, k = max(cash * (1 - CASH_RESERVE), 0.0), bill(1.0), 1.0
        if need <= budget:
            return 1.0
        fixed = bill(0.0)
        for _ in range(60):
            if budget <= fixed:
                return 0.0
            k *= (budget - fixed) / (need - fixed)
            need = bill(k)
            if need <= cash:
                return k if k > CASH_RESERVE else 0.0  # what the cash reserve left buys nothing
        return 0.0

    def play(self, t, stage, asks, g, k, rate, used):
        "Fill the orders of one side."
        for order, wanted, price in asks:
            quantity = self.towards(order.goal, self.held[order.name], self.scaled(order, wanted, g, k))
            used[order.name] -= abs(wanted) - abs(quantity)
            if quantity:
                self.fill(t, stage, order, quantity, price, rate[order.name])

    def fill(self, t, stage, order, quantity, price, rate):
        name, was = order.name, self.held[order.name]
        cost = self.book_fill(t, order, name, quantity, price, rate)
        order.filled += quantity
        order.left -= quantity
        held = self.held[name]
        if abs(order.left) <= DUST * abs(order.quantity) or self.towards(order.goal, held, order.left) == 0:
            order.left = 0.0
        if order.parent:  # what one leg has closed the other need not close
            for leg in order.parent.legs:
                if leg is not order and leg.left:
                    leg.left -= quantity
                    if leg.left * quantity <= 1e-12 * abs(leg.quantity * quantity):
                        leg.left = 0.0
        if held == 0 or held * was < 0:  # a holding is gone: so are the orders that could only reduce it
            for other in self.book:
                if other.name == name and other.goal == 0 and other.left * was < 0:
                    other.left = 0.0
        for leg in order.legs:
            new = leg.quantity == 0
            if new:
                leg.price = cost * (1 + (1 if quantity > 0 else -1) * leg.share)
            if new or not leg.open:
                leg.open, leg.first = (
                    True,
                    t if stage == "open" or (leg.type == "stop" and stage in ("stops", "limits")) else t + 1,
                )
                self.book.append(leg)
            if leg.type == "stop" and stage in ("stops", "limits"):
                leg.born = t
                leg.price = min(leg.price, price) if quantity > 0 else max(leg.price, price)
            leg.quantity -= quantity
            leg.left -= quantity

    def book_fill(self, t, order, name, quantity, price, rate):
        "Move shares and money."
        cost, fee = self.paid(order, quantity, price, rate)
        self.cash -= quantity * cost * rate + fee
        self.held[name] += quantity
        if abs(self.held[name]) <= 1e-12 * abs(quantity):
            self.held[name] = 0.0
        self.fills.append((t, name, quantity, cost * rate, fee, price, order))
        return cost

    # the close
    def close(self, t):
        value = 0.0
        for name, held in self.held.items():
            bar = self.bars[t][name]
            self.silent[name] += 1
            if bar:
                self.mark[name], self.silent[name], self.rate[name] = bar.close, 0, bar.rate
            self.fee[name] = bar.borrow if bar and not isnan(bar.borrow) else self.costs.borrow_bps / 1e4
            if held and self.silent[name] >= self.rules.stale_after:
                self.book_fill(
                    t, None, name, -held, self.mark[name] * (1 + self.rules.delisting_return), self.rate[name]
                )
                continue
            if held:
                worth = held * self.mark[name] * self.rate[name]
                self.cash -= worth * (bar.funding if bar else 0.0)
                value += worth
        self.log.append((self.cash, self.cash + value))

    def expire(self, t):
        for order in self.book:
            order.sessions += t >= order.first
            if order.left and self.towards(order.goal, self.held[order.name], order.left) == 0:
                order.left = 0.0
            old = 0 < order.valid <= order.sessions
            if old or (order.left and self.silent[order.name] >= self.rules.stale_after):
                order.left, order.open = (order.left if old else 0.0), False
            order.open = order.open and order.left != 0
        self.book = [order for order in self.book if order.open]

    def session(self, t):
        "Play from the last close to the next."
        self.night(t) if t else None
        now = {n: (b.open if b else self.mark[n]) for n, b in self.bars[t].items()}
        used, purse = dict.fromkeys(self.held, 0.0), inf
        for stage in STAGES:
            if stage == "close":
                now = {n: (b.close if b else self.mark[n]) for n, b in self.bars[t].items()}
            spent = self.stage(t, stage, used, purse if stage in INSIDE else inf, now)
            purse = self.cash if stage == "open" else purse - spent
        self.close(t)
        self.expire(t)
