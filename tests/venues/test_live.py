"""Where money is real: earned on paper, said aloud, at one address, and nobody else may answer there."""

import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pytest
from typer.testing import CliRunner

pytest.importorskip("alpaca", reason="alpaca-py is not installed: pip install 'quantlab[alpaca]'")

from fakes.alpaca import AlpacaVenue
from fakes.core import Core, Ticks

import quantlab.execution.trader as trading
from quantlab.commands import paper_commands
from quantlab.commands.cli import app
from quantlab.core.errors import ConfigError, QuantlabError
from quantlab.execution.paper_ledger import Anchor, PaperLedger
from quantlab.execution.trader import BegunTrader, Trader, TraderTerms, earn_permit, session_hours
from quantlab.execution.venue import LivePermit, Unsure
from quantlab.venues.alpaca import LIVE, PAPER, AlpacaLive, AlpacaPaper
from quantlab.venues.by_name import open_live

NAMES = ["AAPL", "MSFT", "XOM", "KO", "JPM", "GE"]
RECIPE = """name: six
data: {universe: 'AAPL,MSFT,XOM,KO,JPM,GE', end: '2016-07-20'}
features: {use: ['momentum(63, 5)'], transform: [rank]}
model: {kind: feature, column: mom_63_5}
policy: {top_k: 2, buffer: 0, rebalance: 1}
limits: {kill_drawdown: 0.2, max_weight: 0.5}
"""
PERMIT = LivePermit("k", 60, 60, "h")
RISK = "kill_drawdown=0.2,max_weight=0.5"
KEYS = {"APCA_LIVE_API_KEY_ID": "live", "APCA_LIVE_API_SECRET_KEY": "secret-of-the-live-account"}


class Clock:
    "What the machine says; the test sets it."

    now = "2016-07-07T20:10:00.000000+00:00"

    def __call__(self):
        return Clock.now

    @staticmethod
    def after(date):
        close = pd.Timestamp(session_hours("XNYS", date)[0])
        Clock.now = f"{close + pd.Timedelta('10min'):%Y-%m-%dT%H:%M:%S.%f+00:00}"


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(trading, "utc_now", Clock())
    Clock.now = "2016-07-07T20:10:00.000000+00:00"


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    "Nine closes on paper by the machine's clock, each of which somebody outside held two hours later."
    folder = tmp_path_factory.mktemp("earned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trading, "utc_now", Clock())
        yield folder, carried(folder)


def carried(folder):
    "Carry the closes; return what somebody outside held."
    (folder / "six.yaml").write_text(RECIPE)
    home, anchors = folder / "paper", []
    trader = Trader(folder / "six.yaml", home, TraderTerms("100000", "2016-07-07"))
    for date in trader.pending():
        if date == trader.sessions[-1]:
            break
        Clock.after(date)
        trader = Trader(folder / "six.yaml", home)
        trader.step()
        commit = subprocess.run(["git", "-C", home, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        at = pd.Timestamp(session_hours("XNYS", date)[0]) + pd.Timedelta("2h")
        anchors.append(Anchor(commit, f"{at:%Y-%m-%dT%H:%M:%S.%f+00:00}", "somebody outside"))
    return anchors


def test_days_are_earned_one_by_one(paper, monkeypatch, tmp_path):
    folder, anchors = paper
    begun = BegunTrader(folder / "six.yaml", folder / "paper")
    permit = earn_permit(begun, anchors, tmp_path / "a", asked=8)
    assert permit == LivePermit(begun.key, len(anchors), 8, begun.ledger.head()) and permit.earned
    with pytest.raises(QuantlabError, match=r"^6 days of six on paper are proven, and 8 are asked for"):
        earn_permit(begun, anchors[:6], tmp_path / "b", asked=8)
    with pytest.raises(QuantlabError, match=r"^0 days"):
        earn_permit(begun, [], tmp_path / "c", asked=1)
    days = PaperLedger.days

    def richer(self):
        return [*days(self)[:-1], days(self)[-1]._replace(cash=str(Decimal(days(self)[-1].cash) + Decimal("0.01")))]

    monkeypatch.setattr(PaperLedger, "days", richer)
    with pytest.raises(QuantlabError, match="does not verify"):
        earn_permit(begun, anchors, tmp_path / "d", asked=8)


def test_a_replayed_ledger_earns_nothing(tmp_path):
    (tmp_path / "six.yaml").write_text(RECIPE)
    trader = Trader(tmp_path / "six.yaml", tmp_path / "x", TraderTerms("100000", "2016-07-15", clock="replayed"))
    while trader.step():
        pass
    head = subprocess.run(
        ["git", "-C", tmp_path / "x", "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    now = Anchor(head, datetime.now(UTC).isoformat(), "somebody outside")
    with pytest.raises(QuantlabError, match=r"^0 days"):
        earn_permit(trader, [now], tmp_path / "a", asked=1)


def test_a_permit_is_of_one_recipe(paper, tmp_path):
    folder, anchors = paper
    begun = BegunTrader(folder / "six.yaml", folder / "paper")
    permit = earn_permit(begun, anchors, tmp_path / "a", asked=8)
    (tmp_path / "other.yaml").write_text(RECIPE.replace("top_k: 2", "top_k: 3"))
    terms = TraderTerms("1000", "2016-07-19")
    with pytest.raises(QuantlabError, match="earn one on paper with it"):
        Trader(tmp_path / "other.yaml", tmp_path / "x", terms, permit=permit)
    with pytest.raises(QuantlabError, match="earn one on paper with it"):
        Trader(folder / "six.yaml", tmp_path / "x", terms, permit=permit._replace(proven=7))
    assert not (tmp_path / "x" / "start.json").exists()


def test_the_live_account_needs_a_permit_and_keys_of_its_own(monkeypatch):
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "paper")
    for bad in (None, "yes", True, PERMIT._replace(proven=59), PERMIT._replace(asked=0)):
        with pytest.raises(ConfigError, match="opens for a permit only"):
            open_live("alpaca", bad)
    monkeypatch.delenv("APCA_LIVE_API_KEY_ID", raising=False)
    with pytest.raises(ConfigError, match="APCA_LIVE_API_KEY_ID is not set"):
        open_live("alpaca", PERMIT)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    venue = open_live("alpaca", PERMIT)
    assert venue._client._base_url == LIVE and venue._client._session.verify is True
    with pytest.raises(TypeError):
        AlpacaLive(PERMIT, address="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="is not Alpaca's paper address"):
        AlpacaPaper(LIVE)
    assert AlpacaPaper()._client._base_url == PAPER
    with pytest.raises(ConfigError, match="no live account here"):
        open_live("binance", PERMIT)


# --- over TLS, on this machine


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    "A certificate of 127.0.0.1, signed by itself."
    if not shutil.which("openssl"):
        pytest.skip("the program openssl is not here")
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
            "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    return folder


class Tunnel:
    "TLS in front of a stand-in."

    def __init__(self, folder, port):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.to, self.socket = port, socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def url(self):
        return f"https://127.0.0.1:{self.socket.getsockname()[1]}"

    def serve(self):
        while True:
            try:
                raw, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(raw,), daemon=True).start()

    def carry(self, raw):
        try:
            near, far = (
                self.context.wrap_socket(raw, server_side=True),
                socket.create_connection(("127.0.0.1", self.to)),
            )
        except OSError:
            raw.close()
            return
        threading.Thread(target=self.copy, args=(far, near), daemon=True).start()
        self.copy(near, far)

    def copy(self, here, there):
        try:
            while data := here.recv(65536):
                there.sendall(data)
        except OSError:
            pass  # one side has hung up, and the other is hung up next
        finally:
            there.close()


@pytest.fixture
def account(certificate, monkeypatch):
    "The live account: a stand-in behind TLS, at what the adapter believes to be the live address."
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    core = Core("50000", instruments=NAMES, clock=Ticks(datetime(2016, 7, 1, tzinfo=UTC)))
    venue = AlpacaVenue(core, key=KEYS["APCA_LIVE_API_KEY_ID"], secret=KEYS["APCA_LIVE_API_SECRET_KEY"])
    venue.book("CSD", "2016-07-20", "0")  # on the day of the beginning: it is in the money already
    venue.booked[-1]["net_amount"] = "12345"
    venue.book("INT", "2016-07-21", "0.5")  # on the day after
    core.balances["USD"] -= Decimal("0.5")
    with venue.serve() as url:
        tunnel = Tunnel(certificate, int(url.rpartition(":")[2]))
        monkeypatch.setattr(AlpacaLive, "_home", tunnel.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
        yield core
        tunnel.socket.close()


def test_who_cannot_prove_to_be_the_venue_is_not_spoken_to(account, monkeypatch):
    assert AlpacaLive(PERMIT).book() == ({}, Decimal("50000"))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(Unsure) as told:
        AlpacaLive(PERMIT).book()
    assert KEYS["APCA_LIVE_API_SECRET_KEY"] not in str(told.value)


def call(line, given=None):
    done = CliRunner().invoke(app, line, input=given, env={"COLUMNS": "110"})
    return done.exit_code, done.output + str(done.exception or "")


def test_from_proven_days_to_a_fill_by_the_command_line(paper, account, monkeypatch, tmp_path):
    folder, anchors = paper
    monkeypatch.setattr(trading, "LIVE_DAYS", 8)
    monkeypatch.setattr(paper_commands, "_anchors", lambda home, *_: anchors if home.name == "paper" else [])
    recipe, home = str(folder / "six.yaml"), ["--home", str(tmp_path / "live")]
    start = ["live", "start", recipe, "--venue", "alpaca", "--capital", "10000", "--universe", ",".join(NAMES),
             "--risk", RISK, "--paper", str(folder / "paper"), *home]  # fmt: skip
    assert "at least 8" in call([*start, "--days", "7"])[1]
    for wrong in ("yes", "trade six with 10000"):
        code, said = call([*start, "--days", "8"], f"{wrong}\n")
        assert code == 1 and "not confirmed" in said and not (tmp_path / "live").exists()
    sentence = f"trade six with 10000 at alpaca, {','.join(NAMES)}, {RISK}"
    for name, other in (("--universe", "AAPL"), ("--risk", "kill_drawdown=0.3"), ("--risk", "max_weight=0.5")):
        changed = [other if start[n - 1] == name else word for n, word in enumerate(start)]
        assert call([*changed, "--days", "8", "--confirm", sentence])[0] == 1
    Clock.after("2016-07-20")
    code, said = call([*start, "--days", "8", "--confirm", sentence])
    assert code == 0, said
    terms = PaperLedger(tmp_path / "live").terms()
    assert terms["live"]["proven"] == len(anchors) and terms["aside"] == "40000" and terms["venue"] == "alpaca"
    code, said = call(["live", "step", recipe, *home])
    assert code == 0 and re.search(r"2016-07-20: \d orders", said), said
    sent = account.events("accepted")
    assert len(sent) == 2 and len({one["client_order_id"] for one in sent}) == 2
    account.open_session("2016-07-21", dict.fromkeys(NAMES, "50"))
    account.balances["USD"] += Decimal("0.5")
    Clock.now = "2016-07-21T13:31:00.000000+00:00"
    code, said = call(["live", "step", recipe, *home])
    assert code == 0 and "0 closes carried" in said
    held = {name: account.position(name) for name in NAMES if account.position(name)}
    assert len(held) == 2 and sum(n * 50 for n in held.values()) < 10500, "the capital, and not the account's 50,000"
    code, said = call(["live", "status", recipe, *home])
    assert code == 0 and all(name in said for name in held) and "armed" in said and "kill_drawdown" in said
    code, said = call(["live", "verify", recipe, *home])
    assert code == 0 and "by the venue's book" in said, said
    account.balances["USD"] -= Decimal("0.01")
    call(["live", "step", recipe, *home])
    code, said = call(["live", "verify", recipe, *home])
    assert code == 1 and "-0.01" in said, said
    code, said = call(["live", "stop", recipe, "--reason", "enough", *home])
    assert code == 0 and "killed" in said and "quantlab live rearm" in said
    assert KEYS["APCA_LIVE_API_SECRET_KEY"] not in "".join(
        file.read_text(errors="ignore") for file in tmp_path.rglob("*") if file.is_file()
    )
    assert "say that" in call(["paper", "status", recipe, *home])[1]


def test_an_account_that_holds_shares_or_too_little_is_not_begun(paper, account, tmp_path):
    folder, anchors = paper
    begun = BegunTrader(folder / "six.yaml", folder / "paper")
    permit = earn_permit(begun, anchors, tmp_path / "a", asked=8)
    for capital, held in (("50001", 0), ("1000", 3)):
        if held:
            account.hold("KO", held)
        with pytest.raises(QuantlabError, match="holds KO" if held else "pay in"):
            Trader(
                folder / "six.yaml", tmp_path / "x", TraderTerms(capital, "2016-07-19", venue="alpaca"),
                venue=AlpacaLive(permit), permit=permit,
            )  # fmt: skip
    assert not (tmp_path / "x" / "start.json").exists()


def test_a_trader_that_was_begun_at_a_venue_is_not_opened_without_it(paper, account, tmp_path):
    folder, anchors = paper
    permit = earn_permit(BegunTrader(folder / "six.yaml", folder / "paper"), anchors, tmp_path / "a", asked=8)
    terms = TraderTerms("1000", "2016-07-19", venue="alpaca")
    Trader(folder / "six.yaml", tmp_path / "x", terms, venue=AlpacaLive(permit), permit=permit)
    with pytest.raises(QuantlabError, match="begun at alpaca"):
        Trader(folder / "six.yaml", tmp_path / "x")
    with pytest.raises(QuantlabError, match="begun at paper"):
        Trader(folder / "six.yaml", folder / "paper", venue=AlpacaLive(permit))


def test_the_live_commands_load_no_client_until_they_need_one():
    program = "import sys, quantlab.commands.cli; assert not {'alpaca', 'pandas'} & set(sys.modules), 'loaded'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
