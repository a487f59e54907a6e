"""Build the committed sample from a folder of source files.

Usage, from the root of the workspace:

    python data/sample/build.py SOURCE

SOURCE holds embed/us120_2010_2023.parquet, embed/market_context_2010_2023.parquet,
us/sp500_ticker_start_end.csv, us/sp500_sector_snapshots_2012_2026.parquet, us/vix-daily.csv and
text/edgar_8k_extracted.zip.
`book_events.parquet`, `option_chain.parquet` and the scenes in altdata/ have no source: they are simulated here,
from fixed seeds. `python data/sample/build.py scenes` makes the scenes alone.
The script changes units, types and row order. It drops no row and repairs no value; what is wrong in a
source is wrong in the sample too, and README.md counts it. It writes SHA256SUMS beside the files
(check them with `sha256sum -c SHA256SUMS`). Parquet bytes depend on the version of pyarrow; values do not.
"""

import datetime
import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
LIMIT = 10 * 2**20
PRICES = ["open", "high", "low", "close"]


def as_symbols(column: pa.ChunkedArray) -> pa.DictionaryArray:
    "Encode symbols with a sorted dictionary, so that code order is name order."
    plain = pc.cast(column, pa.string())
    names = pc.unique(plain).take(pc.sort_indices(pc.unique(plain)))
    codes = pc.cast(pc.index_in(plain, value_set=names), pa.int16()).combine_chunks()
    return pa.DictionaryArray.from_arrays(codes, names)


def filings(source: Path) -> None:
    "Every 8-K from 2010 to 2023 of the two filers that are in us_bars; the text of an item is cut to 1,000 characters."
    rows, symbols = [], {"1001039": "DIS", "1048911": "FDX"}
    with zipfile.ZipFile(source / "text/edgar_8k_extracted.zip") as box:
        found = [json.loads(box.read(name)) for name in sorted(box.namelist()) if name.endswith(".json")]
    for got in found:
        if got["cik"] not in symbols or not "2010" <= got["filing_date"] < "2024":
            continue
        items = {key[5:]: text.strip() for key, text in got.items() if key.startswith("item_") and text.strip()}
        rows.append({
            "symbol": symbols[got["cik"]],
            "cik": got["cik"],
            "company": got["company"],
            "form": got["filing_type"],
            "accession": got["complete_text_filing_link"].rsplit("/", 1)[-1].removesuffix(".txt"),
            "period": datetime.datetime.fromisoformat(got["period_of_report"]),
            "filed": datetime.datetime.fromisoformat(got["filing_date"]),
            "accepted": None,
            "items": ",".join(items),
            "text": "\n".join(text[:1000].strip() for text in items.values()),
        })  # fmt: skip
    table = pa.Table.from_pylist(rows)
    days = [pa.field(n, pa.timestamp("us")) for n in ("period", "filed")] + [pa.field("accepted", pa.timestamp("us", "UTC"))]
    typed = {field.name: field for field in days}
    table = table.cast(pa.schema([typed.get(field.name, field) for field in table.schema]))
    (HERE / "altdata").mkdir(exist_ok=True)
    write(table, "altdata/filings.parquet", ["filed", "symbol", "accession"])


def write(table: pa.Table, name: str, keys: list[str]) -> None:
    "Sort by the keys and write without pandas metadata; replace the file only when it is whole."
    codes = [table[key].combine_chunks() for key in keys]
    codes = [c.indices if isinstance(c, pa.DictionaryArray) else c for c in codes]
    order = pc.sort_indices(pa.table(codes, names=keys), sort_keys=[(key, "ascending") for key in keys])
    table = table.take(order).replace_schema_metadata(None)
    encoded = {c: "BYTE_STREAM_SPLIT" for c in table.column_names if pa.types.is_floating(table.schema.field(c).type)}
    partial = HERE / (name + ".part")
    pq.write_table(
        table,
        partial,
        compression="zstd",
        compression_level=15,
        use_dictionary=[c for c in table.column_names if c not in encoded and c != "volume"],
        column_encoding=encoded,
    )
    partial.replace(HERE / name)


def us_bars(source: Path) -> None:
    table = pq.read_table(source / "embed/us120_2010_2023.parquet")
    shares = pc.multiply(pc.cast(table["volume_100"], pa.int64()), 100)
    columns = {"date": pc.cast(table["date"], pa.timestamp("us")), "symbol": as_symbols(table["symbol"])}
    columns |= {c: table[c] for c in PRICES} | {"volume": pc.cast(shares, pa.int32()), "adj": table["adj"]}
    write(pa.table(columns), "us_bars.parquet", ["date", "symbol"])


def market_context(source: Path) -> None:
    table = pq.read_table(source / "embed/market_context_2010_2023.parquet")
    columns = {"date": pc.cast(table["date"], pa.timestamp("us")), "symbol": as_symbols(table["symbol"])}
    columns |= {c: table[c] for c in PRICES} | {"volume": pc.cast(table["volume"], pa.int64())}  # a fraction would raise
    write(pa.table(columns), "market_context.parquet", ["date", "symbol"])


def sp500_sectors(source: Path) -> None:
    table = pq.read_table(source / "us/sp500_sector_snapshots_2012_2026.parquet")
    columns = {"asof": table["asof"], "symbol": as_symbols(table["symbol"])}
    columns |= {c: pc.dictionary_encode(pc.cast(table[c], pa.string())) for c in ("name", "sector", "sub_industry")}
    write(pa.table(columns), "sp500_sectors.parquet", ["asof", "symbol"])


OPEN, LENGTH, TICK, LEVELS, DEEPEST = 34_200, 5_400, 100, 3, 10  # seconds; a cent in units of 10^-4; levels; ticks


class Flow:
    "A book of zero intelligence: orders come, go and trade at constant rates, whatever the price does."

    def __init__(self, seed: int, start: int):
        self.rng, self.now, self.orders, self.rows = np.random.default_rng(seed), float(OPEN), {}, []
        self.depth = {1: {}, -1: {}}  # side -> price -> shares; the ids of a price wait in self.queue, first come first
        self.queue, self.next_id, self.best = {}, 1_000, {1: start - TICK, -1: start + TICK}
        for ticks in range(DEEPEST):
            for side in (1, -1):
                self.place(side, self.best[side] - side * ticks * TICK, int(self.rng.geometric(0.3)) * 100)

    def note(self, kind: int, order: int, size: int, price: int, side: int) -> None:
        "Write a message and the book after it."
        self.best |= {s: s * max(s * p for p in self.depth[s]) for s in (1, -1) if self.depth[s]}
        levels = []
        for n in range(LEVELS):
            for s in (-1, 1):
                prices = sorted(self.depth[s], key=lambda p: -s * p)
                levels += [prices[n], self.depth[s][prices[n]]] if n < len(prices) else [-s * 9_999_999_999, 0]
        self.rows.append([round(self.now, 6), kind, order, size, price, side, *levels])

    def place(self, side: int, price: int, size: int) -> None:
        "Add an order at the back of its price."
        self.orders[self.next_id] = [side, price, size]
        self.queue.setdefault((side, price), []).append(self.next_id)
        self.depth[side][price] = self.depth[side].get(price, 0) + size
        self.note(1, self.next_id, size, price, side)
        self.next_id += 1

    def reduce(self, order: int, size: int, kind: int) -> None:
        "Take shares from an order: by its owner (2 in part, 3 whole) or by a trade (4)."
        side, price, left = self.orders[order]
        self.orders[order][2] -= size
        self.depth[side][price] -= size
        if left == size:
            del self.orders[order]
            self.queue[side, price].remove(order)
        if self.depth[side][price] == 0:
            del self.depth[side][price]
        self.note(kind, order, size, price, side)

    def trade(self, side: int, size: int) -> None:
        "Send a market order against the resting orders of a side; one share at least stays in the book."
        while size > 0 and len(self.orders) > 4 and len(self.depth[side]) > 1:
            first = self.queue[side, self.best[side]][0]
            taken = min(size, self.orders[first][2])
            self.reduce(first, taken, 4)
            size -= taken

    def step(self) -> None:
        "Let the next event happen: rates are per second, cancellations per order."
        gone = 0.02 * len(self.orders)
        rates = np.array([0.62, 0.16, 0.025, gone * 0.9, gone * 0.1])
        self.now += float(self.rng.exponential(1 / rates.sum()))
        what, side = self.rng.choice(5, p=rates / rates.sum()), int(self.rng.choice([1, -1]))
        size = int(self.rng.geometric(0.4)) * 100 - int(self.rng.integers(0, 2) * self.rng.integers(0, 100))
        if what == 0:
            ticks = int(min(self.rng.geometric(0.28), DEEPEST))
            self.place(side, self.best[-side] - side * ticks * TICK, size)
        elif what == 1:
            self.trade(side, size)
        elif what == 2 and self.best[-1] - self.best[1] > TICK:
            hidden = (self.best[-1] + self.best[1]) // 2
            self.note(5, 0, size, hidden, side)
        elif what >= 3:
            order = int(self.rng.choice(sorted(self.orders)))
            side, price, left = self.orders[order]
            if len(self.depth[side]) > 1:
                self.reduce(order, left if what == 3 or left < 2 else left // 2, 3 if what == 3 or left < 2 else 2)


def book_events() -> None:
    "Simulate two books of an hour and a half: every message, and the best three levels after it."
    frames, names = [], ["time", "type", "id", "size", "price", "direction"]
    names += [f"{s}_{what}_{n}" for n in range(1, LEVELS + 1) for s in ("ask", "bid") for what in ("price", "size")]
    for code, (seed, start) in enumerate(((21, 1_000_000), (22, 400_000))):
        flow = Flow(seed, start)
        while flow.now < OPEN + LENGTH:
            flow.step()
        frames.append([[code, *row] for row in flow.rows if row[0] <= OPEN + LENGTH])
    rows = list(zip(*(row for frame in frames for row in frame), strict=True))
    columns = {"symbol": pa.DictionaryArray.from_arrays(pa.array(rows[0], pa.int16()), ["SIMA", "SIMB"])}
    for name, values in zip(names, rows[1:], strict=True):
        columns[name] = pa.array(values, pa.float64() if name == "time" else pa.int64())
    table = pa.table(columns).append_column("row", pa.array(range(len(rows[0])), pa.int32()))
    write(table, "book_events.parquet", ["symbol", "row"])


SPOT, RATE, YIELD = 6_936.0, 0.0365, 0.0115  # of the made index at the close; a year, continuously compounded
BATES = {"v0": 0.0175, "theta": 0.044, "kappa": 4.0, "sigma": 1.15, "rho": -0.74}
JUMPS = {"rate": 0.7, "mean": -0.06, "std": 0.07}  # a year; of the log of the index
QUOTED = datetime.datetime(2026, 1, 30, 21, tzinfo=datetime.UTC)  # 16:00 in New York, a Friday
SUMMER = datetime.date(2026, 3, 8)  # clocks in New York go forward
EXPIRIES = {  # day: roots; SPX settles at 09:30 in New York, SPXW at 16:00
    "260206": ["SPXW"], "260220": ["SPX", "SPXW"], "260227": ["SPXW"], "260306": ["SPXW"],
    "260320": ["SPX", "SPXW"], "260417": ["SPX", "SPXW"], "260618": ["SPX", "SPXW"], "261218": ["SPX"],
}  # fmt: skip


def bates_calls(forward: float, strikes: np.ndarray, years: float) -> np.ndarray:
    "Price calls, undiscounted, by Lewis' integral (2001) over the characteristic function of Bates (1996)."
    z = np.arange(0.5, 60_000) * 0.05 - 0.5j
    v0, theta, kappa, sigma, rho = BATES.values()
    lean = kappa - rho * sigma * 1j * z
    d = np.sqrt(lean**2 + sigma**2 * (1j * z + z**2))
    g, fade = (lean - d) / (lean + d), np.exp(-d * years)
    far = kappa * theta / sigma**2 * ((lean - d) * years - 2 * np.log((1 - g * fade) / (1 - g)))
    drift = np.exp(JUMPS["mean"] + JUMPS["std"] ** 2 / 2) - 1
    jump = np.exp(1j * z * JUMPS["mean"] - JUMPS["std"] ** 2 * z**2 / 2) - 1 - 1j * z * drift
    near = v0 / sigma**2 * (lean - d) * (1 - fade) / (1 - g * fade)
    weight = np.exp(far + near + JUMPS["rate"] * years * jump) / (z * (z + 1j)).real * 0.05
    x = np.log(forward / strikes)
    area = np.array([(np.exp(1j * z.real * one) * weight).real.sum() for one in x])
    return np.clip(forward - np.sqrt(forward * strikes) / np.pi * area, np.maximum(forward - strikes, 0), forward)


def listed_strikes(spot: float, years: float) -> np.ndarray:
    "List strikes as an exchange does: near the money every five, far from it every hundred."
    reach = np.sqrt(max(years, 0.05)) * spot
    near = np.arange(np.floor((spot - 0.18 * reach) / 5) * 5, spot + 0.15 * reach, 5 if years < 0.09 else 10 if years < 0.5 else 25)
    middle = np.arange(np.floor((spot - 0.75 * reach) / 25) * 25, spot + 0.35 * reach, 25)
    return np.unique([*near, *middle, *np.arange(1_000, 1.3 * spot, 200)])


def option_rows(rng: np.random.Generator, day: str, root: str) -> list[list]:
    "Quote every strike of an expiry and root around its fair price, and some as they stood before."
    date = datetime.datetime.strptime(day, "%y%m%d").replace(tzinfo=datetime.UTC)
    local = 9.5 if root == "SPX" else 16.0
    expiry = date + datetime.timedelta(hours=local + (4 if date.date() > SUMMER else 5))
    years = (expiry - QUOTED) / datetime.timedelta(days=365)
    discount, forward = np.exp(-RATE * years), SPOT * np.exp((RATE - YIELD) * years)
    strikes = listed_strikes(SPOT, years)
    calls = {move: discount * bates_calls(forward * move, strikes, years) for move in (1.0, 0.994, 1.006)}
    rows = []
    for call in (True, False):
        fair = {m: c if call else c - discount * (forward * m - strikes) for m, c in calls.items()}
        inside = np.maximum((1 if call else -1) * (forward - strikes), 0)
        for n, strike in enumerate(strikes):
            old = inside[n] > 60 and rng.random() < 0.16  # deep in the money a quote is often left standing
            price = fair[rng.choice([0.994, 1.006]) if old else 1.0][n]
            half = (0.06 + 0.0045 * (price - discount * inside[n]) + 0.0018 * inside[n]) * rng.uniform(0.7, 1.3)
            tick, shift = 0.05 if price < 3 else 0.1, rng.uniform(-0.4, 0.4) * half
            bid = max(np.floor((price - half + shift) / tick) * tick, 0)
            ask = max(np.ceil((price + half + shift) / tick) * tick, tick)
            name = f"{root}{day}{'C' if call else 'P'}{round(strike * 1000):08d}"
            rows.append([name, strike, round(bid, 2), round(ask, 2), price, date, "call" if call else "put"])
    return rows


def option_chain() -> None:
    "Simulate an evening's quotes of options on an index, in a vendor's columns and with a vendor's flaws."
    rng = np.random.default_rng(30)
    rows = [row for day, roots in EXPIRIES.items() for root in roots for row in option_rows(rng, day, root)]
    names, strike, bid, ask, price, day, kind = (np.array(one) for one in zip(*rows, strict=True))
    crossed = [np.flatnonzero(names == one)[0] for one in ("SPX260220C01000000", "SPX260618C05800000")]
    bid[crossed[0]], ask[crossed[0]] = ask[crossed[0]], bid[crossed[0]]
    ask[crossed[1]] = 0
    away = rng.random(len(bid)) < 0.02  # a side that nobody quotes at all
    bid, ask = np.where(away & (price < 40), 0, bid), np.where(away & (price < 2), 0, ask)
    hours = rng.exponential(np.where(bid > 0, 9, 400))  # since the last trade
    traded = [QUOTED - datetime.timedelta(seconds=round(3600 * h)) for h in hours]
    junk = (bid == 0) | (rng.random(len(bid)) < 0.05)
    table = pa.table({
        "contractSymbol": names.tolist(),
        "lastTradeDate": pa.array(traded, pa.timestamp("s", "UTC")),
        "strike": strike,
        "lastPrice": np.round(price * (1 + 0.02 * rng.standard_normal(len(price))), 2).clip(0.05),
        "bid": bid,
        "ask": ask,
        "volume": pa.array([None if v == 0 else float(v) for v in rng.geometric(0.02, len(bid)) * (rng.random(len(bid)) > 0.08)]),
        "openInterest": rng.geometric(0.001, len(bid)),
        "impliedVolatility": np.where(junk, 1e-5, 0.17 + 0.35 * np.abs(np.log(strike / SPOT)) ** 0.9),
        "option_type": kind.tolist(),
        "expiration": pa.array([one.replace(tzinfo=None) for one in day], pa.timestamp("s")),
    })  # fmt: skip
    write(table, "option_chain.parquet", ["contractSymbol"])


def scenes() -> None:
    "Make pictures of two car parks of one owner on two days, the first one computed twice, and of three tanks."
    from dataclasses import replace

    from quantlab.altdata.satellite import Scene, synth_car_park, synth_tanks, write_raster

    made = (
        ("lots_20210302", (40, 110), 0.05, 0.0, "2021-03-02 16:30+00:00", "2021-03-03 12:00+00:00", 0, 40),
        ("lots_20210302_r1", (40, 110), 0.03, 0.0, "2021-03-02 16:30+00:00", "2021-03-12 12:00+00:00", 1, 40),
        ("lots_20210309", (60, 80), 0.05, 0.2, "2021-03-09 16:31+00:00", "2021-03-16 12:00+00:00", 0, 44),
    )
    for file, counts, noise, clouds, acquired, published, revision, seed in made:
        west, east = (
            synth_car_park(n, noise=noise, clouds=clouds, seed=seed + i, acquired=acquired, published=published)
            for i, n in enumerate(counts)
        )
        both = Scene(
            {"pan": np.hstack([west.bands["pan"], east.bands["pan"]])},
            np.hstack([west.cloudy, east.cloudy]),
            west.transform,
            west.crs,
            west.acquired,
            west.published,
            file[:13],
            revision,
        )
        write_raster(both, HERE / "altdata" / f"scene_{file}.tif", dtype="uint8")
    tanks, _ = synth_tanks([0.2, 0.55, 0.9], sun_elevation=50, seed=46)
    write_raster(replace(tanks, name="tanks_20210302"), HERE / "altdata" / "scene_tanks_20210302.tif", dtype="uint8")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "scenes":
        return scenes()
    source = Path(sys.argv[1])
    for build in (us_bars, market_context, sp500_sectors, filings):
        build(source)
    book_events()
    option_chain()
    scenes()
    shutil.copyfile(source / "us/sp500_ticker_start_end.csv", HERE / "sp500_members.csv")
    shutil.copyfile(source / "us/vix-daily.csv", HERE / "vix.csv")
    files = sorted([*HERE.glob("*.parquet"), *HERE.glob("*.csv")])
    sums = "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files)
    (HERE / "SHA256SUMS").write_text(sums)
    size = sum(f.stat().st_size for f in files)
    if size > LIMIT:
        sys.exit(f"the sample takes {size / 2**20:.1f} MB, more than {LIMIT / 2**20:.0f} MB")
    sys.stdout.write(sums + f"{size / 2**20:.2f} MB\n")


if __name__ == "__main__":
    main()
