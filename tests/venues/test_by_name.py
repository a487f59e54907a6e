"Venues by their names: the extra that is missing is named, and execution imports no venue."

import subprocess
import sys

import pytest

from quantlab.core.errors import ConfigError
from quantlab.venues import by_name
from quantlab.venues.by_name import VENUES, open_venue


def test_every_name_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setattr(by_name, "find_spec", lambda package: None)
    extras = {
        "alpaca": "alpaca",
        "binance": "vendors",
        "coinbase": "vendors",
        "fix": "fix",
        "interactive_brokers": "ib",
    }
    assert tuple(extras) == VENUES
    for name, extra in extras.items():
        with pytest.raises(ConfigError, match=rf"pip install 'quantlab\[{extra}\]'"):
            open_venue(name)


def test_a_name_or_a_setting_that_is_not_known():
    with pytest.raises(ConfigError, match="there are alpaca, binance, coinbase, fix, interactive_brokers"):
        open_venue("nasdaq")
    pytest.importorskip("simplefix")
    with pytest.raises(ConfigError, match="does not take these settings"):
        open_venue("fix", symbols=["A"])


def test_live_addresses_are_refused_by_every_name(monkeypatch, tmp_path):
    for package in ("alpaca", "ccxt", "simplefix", "ib_async"):
        pytest.importorskip(package)
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_SECRET",
                 "COINBASE_SANDBOX_API_KEY", "COINBASE_SANDBOX_SECRET"):  # fmt: skip
        monkeypatch.setenv(name, "k")
    monkeypatch.delenv("QUANTLAB_FIX_TEST_ADDRESS", raising=False)
    live = {
        "alpaca": {"address": "https://api.alpaca.markets"},
        "binance": {"symbols": ["BTCUSDT"], "address": "https://api.binance.com"},
        "coinbase": {"symbols": ["BTC-USD"], "address": "https://api.coinbase.com"},
        "fix": {"file": tmp_path / "s", "address": "fix.broker.example:443"},
        "interactive_brokers": {"port": 7496},
    }
    for name in VENUES:
        with pytest.raises(ConfigError):
            open_venue(name, **live[name])
    for name in ("binance", "coinbase"):
        for trick in (
            "https://testnet.binance.vision.example.com",
            "http://127.0.0.1.example.com",
            "https://x@evil.example",
        ):
            with pytest.raises(ConfigError, match="is not the address"):
                open_venue(name, symbols=live[name]["symbols"], address=trick)


def test_execution_and_the_list_load_no_client():
    program = (
        "import sys, quantlab.execution.engine, quantlab.execution.paper\n"
        "assert not [m for m in sys.modules if m.startswith('quantlab.venues')]\n"
        "import quantlab.venues.by_name, quantlab.venues.bus, quantlab.venues.streams\n"
        "heavy = {'ccxt', 'alpaca', 'ib_async', 'simplefix', 'redis', 'confluent_kafka', 'websockets'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
