"""Every adapter with its stand-in, set up alike: an order rests until `go`, then fills at the venue's price.

Alpaca, FIX and Interactive Brokers rest because the session is closed; Binance and Coinbase because a limit order
waits for its price. A test judges by `rig.core.log`, which the venue wrote."""

import contextlib
import os
from decimal import Decimal
from unittest.mock import patch

from fakes.alpaca import AlpacaVenue
from fakes.binance import BinanceVenue, spot
from fakes.coinbase import CoinbaseVenue, product
from fakes.core import Core
from fakes.faults import FaultPlan
from fakes.fix import FixVenue
from fakes.tws import FakeIB, Tws

from quantlab.execution.store import OrderRow
from quantlab.venues.alpaca import AlpacaPaper
from quantlab.venues.crypto import BinanceSpot, CoinbaseSpot
from quantlab.venues.fix import FixBroker
from quantlab.venues.interactive_brokers import IbPaper

DAY = "2024-01-03"
KEY, SECRET = "KEY-of-the-venue", "SECRET-of-the-venue"
KEYS = dict.fromkeys(("APCA_API_KEY_ID", "BINANCE_TESTNET_API_KEY", "COINBASE_SANDBOX_API_KEY"), KEY) | dict.fromkeys(
    ("APCA_API_SECRET_KEY", "BINANCE_TESTNET_SECRET", "COINBASE_SANDBOX_SECRET", "QUANTLAB_FIX_PASSWORD"), SECRET
)
SETTLE = 6.0


class Rig:
    "One venue and its adapter; `symbols` cost 100 where an order may fill, and an order is for 10."

    posts, codes, cash, adapter = "POST", True, Decimal("100000"), None

    def __init__(self, folder, **faults):
        self.folder, self.faults = folder, FaultPlan(**({"only": self.posts} | faults))
        self.core = self.make_core()
        self.venue = self.make_venue()

    def make_core(self):
        core = Core(self.cash, instruments=self.symbols)
        for symbol in self.symbols:
            core.set_price(symbol, "100")
        return core

    def go(self):
        "Let what rests fill."
        self.core.open_session(DAY, dict.fromkeys(self.symbols, "100"))

    def restart(self):
        "The process is gone; a new one begins."
        self.adapter = self.make_adapter()
        return self.adapter

    @contextlib.contextmanager
    def serve(self):
        with patch.dict(os.environ, KEYS), self.venue.serve() as self.url:
            yield self.restart()

    def position(self, symbol):
        return self.core.position(symbol)

    def money(self):
        return self.core.balances[self.core.currency]


class Alpaca(Rig):
    name, symbols = "alpaca", ("AAPL", "BA")

    def make_venue(self):
        return AlpacaVenue(self.core, faults=self.faults, key=KEY, secret=SECRET)

    def make_adapter(self):
        return AlpacaPaper(self.url, time_in_force="day", settle=SETTLE, seconds=5.0)


class Spot(Rig):
    fee_in, collar, coins = "quote", "0.01", ("BTC", "ETH")
    cash = Decimal("1000000")

    def make_core(self):
        made = [self.instrument(coin) for coin in self.coins]
        core = Core(self.cash, self.money_name, made, always_open=True, fee_rate="0.001", fee_in=self.fee_in)
        for symbol in self.symbols:
            core.set_price(symbol, "120" if self.collar != "0" else "100")
        return core

    def go(self):
        for symbol in self.symbols:
            self.core.set_price(symbol, "100")

    def make_adapter(self):
        return self.adapter_class(self.symbols, self.url, collar=self.collar, settle=SETTLE, seconds=5.0)


class Binance(Spot):
    name, symbols, money_name, fee_in = "binance", ("BTCUSDT", "ETHUSDT"), "USDT", "received"
    adapter_class, instrument = BinanceSpot, staticmethod(spot)

    def make_venue(self):
        return BinanceVenue(self.core, faults=self.faults, key=KEY, secret=SECRET)


class Coinbase(Spot):
    name, symbols, money_name = "coinbase", ("BTC-USD", "ETH-USD"), "USD"
    adapter_class, instrument = CoinbaseSpot, staticmethod(product)

    def make_venue(self):
        return CoinbaseVenue(self.core, faults=self.faults, key=KEY, secret=SECRET)


class Fix(Rig):
    name, symbols, posts, codes, patience = "fix", ("AAPL", "BA"), "/D", False, 2.0

    def make_venue(self):
        return FixVenue(self.core, faults=self.faults, clients=("QUANTLAB",), name="BROKER", password=SECRET)

    def make_adapter(self):
        place = "{}:{}".format(*self.url)
        return FixBroker(
            self.folder / "fix.sqlite", place, time_in_force="day", held=getattr(self, "held", None), cash=self.cash,
            settle=SETTLE, seconds=self.patience,
        )  # fmt: skip

    def restart(self):
        if self.adapter is not None:
            self.adapter._drop(self.adapter._socket)  # no Logout
        return super().restart()

    @contextlib.contextmanager
    def serve(self):
        with super().serve() as adapter:
            yield adapter
            self.adapter.close()


class InteractiveBrokers(Rig):
    name, symbols, posts, codes = "interactive_brokers", ("AAPL", "BA"), "placeOrder", False

    def make_venue(self):
        return Tws(self.core, self.faults)

    def make_adapter(self):
        self.venue.drop()  # the line of the process before
        self.ib = ib = FakeIB(self.venue).connect(clientId=1)
        ib.disconnectedEvent += lambda: self.ib is ib and ib.connect(clientId=1)  # ib_async leaves this to its owner
        return IbPaper(ib, time_in_force="day", settle=SETTLE, seconds=0.01)

    @contextlib.contextmanager
    def serve(self):
        with patch.dict(os.environ, KEYS):
            yield self.restart()


RIGS = {one.name: one for one in (Alpaca, Binance, Coinbase, Fix, InteractiveBrokers)}


def an_order(rig, id="a1", quantity=10, symbol=None, **more):
    "An order as the store has it, once it was sent."
    row = OrderRow(
        id, "made-up", "2024-01-02", symbol or rig.symbols[0], Decimal(quantity), Decimal(100), "", "sent", "", "", ""
    )
    return row._replace(**more)
