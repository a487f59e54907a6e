"""Build the committed sample from a folder of source files.

Usage, from the root of the workspace:

    python data/sample/build.py SOURCE

SOURCE holds embed/us120_2010_2023.parquet, embed/market_context_2010_2023.parquet,
us/sp500_ticker_start_end.csv, us/sp500_sector_snapshots_2012_2026.parquet and us/vix-daily.csv.
The script changes units, types and row order. It drops no row and repairs no value; what is wrong in a
source is wrong in the sample too, and README.md counts it. It writes SHA256SUMS beside the files
(check them with `sha256sum -c SHA256SUMS`). Parquet bytes depend on the version of pyarrow; values do not.
"""

import hashlib
import shutil
import sys
from pathlib import Path

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


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    for build in (us_bars, market_context, sp500_sectors):
        build(source)
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
