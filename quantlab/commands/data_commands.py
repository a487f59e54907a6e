#| export
import json
import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.types import Interval, as_interval
from quantlab.commands.console import progress_bar, show_table

#| export
data_app = typer.Typer(no_args_is_help=True)


@data_app.callback()
def _about() -> None:
    "Bars: import files, list, judge, download, export."


def _pairs(
    texts: list[str] | None,  # ours=theirs
) -> dict[str, str]:
    "Read pairs; raise ConfigError for one that is none."
    pairs = [text.partition("=") for text in texts or []]
    if not all(ours and equals and theirs for ours, equals, theirs in pairs):
        raise ConfigError("--column needs ours=theirs, such as close=Last")
    return {ours: theirs for ours, _, theirs in pairs}

#| export
_CHOICES = {
    "stamps": ("start", "end"),
    "split": ("event", "premium", "factor", "divisor", "none"),
    "dividends": ("cash", "none"),
    "volume": ("adjusted", "raw"),
    "suspended": ("drop", "keep"),
    "repair": (
        "sort",
        "drop_duplicates",
        "keep_first",
        "keep_last",
        "drop_missing",
        "drop_nonpositive",
        "drop_high_below_low",
        "widen_range",
        "forget_negative_volume",
    ),
}

#| export
def _check_line(
    place: Path,
    dataset: str,
    told: dict[str, str],  # option -> value
    repair: list[str],
) -> None:
    "Raise ConfigError or DataError for what can be seen before a file is opened."
    for option, value in [*told.items(), *(("repair", step) for step in repair)]:
        if value not in _CHOICES.get(option, (value,)):
            raise ConfigError(f"--{option} is {value!r}; use {' or '.join(_CHOICES[option])}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", dataset):
        raise ConfigError(
            f"{dataset!r} cannot name a dataset; use small letters, digits and underscores, such as 'us_daily'"
        )
    if "zone" in told:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(told["zone"])
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(
                f"--zone is {told['zone']!r}, which is no time zone; write it as America/New_York or UTC"
            ) from error
    if not place.exists():
        raise DataError(f"{place} does not exist; check the path")
    if place.is_file() and not place.stat().st_size:
        raise DataError(f"{place} is empty; check the export it comes from")

#| export
_OPTIONS = {
    "date_form": "--date-form",
    "decimal": "--decimal, --thousands",
    "symbol": "--symbol",
    "interval": "--interval",
    "stamps": "--stamps",
    "zone": "--zone",
}


def _terminal() -> bool:
    "Say whether somebody is there to answer."
    return sys.stdin.isatty() and sys.stdout.isatty()


def _believed(
    file: Path,  # the first of several
    columns: dict[str, str],  # our name -> the file's
    told: dict[str, str],  # fields of Mapping that the user gave
    ask: bool,  # put open questions
):  # Mapping
    "Show how a file is read; ask what is open, or raise ConfigError with it."
    from dataclasses import replace

    from quantlab.core.config import display_path
    from quantlab.importer.files import guess_columns, open_questions

    mapping = replace(guess_columns(file, columns, told.get("date_form")), **told)
    show_table(mapping.table().rename_axis("ours").reset_index())
    for line in mapping.lines():
        typer.echo(line)
    asked = open_questions(mapping)
    if asked and not (ask and _terminal()):
        options = ", ".join(dict.fromkeys(_OPTIONS.get(key, "--column") for key in asked))
        raise ConfigError(f"{display_path(file)}: {'; '.join(asked.values())}; answer with {options}")
    for key, question in asked.items():
        answer = typer.prompt(question).strip()
        if key.startswith("column "):
            columns |= {key.removeprefix("column "): answer}
        else:
            told |= {key: as_interval(answer) if key == "interval" else answer}
    return _believed(file, columns, told, ask) if asked else mapping

#| export
def _from_files(
    place: Path,  # a file or a folder
    columns: dict[str, str],  # our name -> the file's
    told: dict[str, str],  # fields of Mapping that the user gave
    repair: list[str],
    ask: bool,  # put open questions
):  # (bars panel, interval)
    "Show how files are read, and read them; raise ConfigError with what is to be answered."
    from quantlab.importer.folder import find_files, import_files

    files, left = find_files(place)
    for name, why in left.items():
        typer.echo(f"left out: {name} ({why})")
    mapping = _believed(files[0], columns, told, ask)
    with progress_bar() as show:
        bars = import_files(files, mapping, repair, show)
    for line, where in bars.attrs["said"].items():
        if line not in mapping.said:
            typer.echo(
                line
                if len(files) == 1
                else f"{line} ({', '.join(where[:3])}{f' and {len(where) - 3} more' if len(where) > 3 else ''})"
            )
    return bars, bars.attrs["interval"]

#| export
def _from_qlib(
    folder: Path,  # of the store
    told: dict[str, str],  # keywords of read_qlib that the user gave
    repair: list[str],
):  # (bars panel, interval)
    "Read a Qlib store at traded prices, Qlib's factor as adj; raise ConfigError for what only files are asked."
    from quantlab.data.schemas import repair_bars
    from quantlab.vendors.qlib import read_qlib

    strange = sorted(set(told) - {"interval", "zone", "stamps", "volume", "suspended"})
    if strange:
        raise ConfigError(
            f"--{strange[0].replace('_', '-')} is about files, and {folder} is a Qlib store; leave it out"
        )
    raw, length = read_qlib(folder, prices="traded", check=not repair, **told), told.get("interval", "1d")
    if not repair:
        return raw, length
    bars, steps = repair_bars(raw, repair)
    bars.attrs["repairs"] = steps["rows"].to_dict()
    return bars, length

#| export
def _from_place(
    place: Path,  # a file, a folder of files, or a Qlib store
    columns: dict[str, str],  # our name -> the file's
    told: dict[str, str],  # option -> value
    repair: list[str],
    ask: bool,  # put open questions
):  # (bars panel, interval)
    "Read whatever lies at a place, and print what was mended; raise ConfigError for an option of the other kind."
    is_qlib = (place / "calendars").is_dir()
    if not is_qlib and {"volume", "suspended"} & set(told):
        raise ConfigError("--volume and --suspended are about Qlib stores; leave them out")
    bars, length = _from_qlib(place, told, repair) if is_qlib else _from_files(place, columns, told, repair, ask)
    for step, rows in bars.attrs.get("repairs", {}).items():
        typer.echo(f"repair {step}: {rows:,} rows")
    return bars, length

#| export
def _check_names(
    lake,  # data.store.Lake
    dataset: str,
    bars,  # about to be stored
) -> None:
    "Raise DataError for a symbol that is stored already in other letters."
    listed = lake.datasets()
    parts = lake.manifest(dataset)["intervals"].values() if dataset in set(listed["dataset"]) else ()
    stored = {name.casefold(): name for part in parts for name in part["symbols"]}
    wrong = [
        (new, stored[new.casefold()]) for new in bars.index.unique("symbol") if stored.get(new.casefold(), new) != new
    ]
    if wrong:
        raise DataError(
            f"{dataset} holds {wrong[0][1]!r} already, and the new rows name {wrong[0][0]!r}; "
            "write both alike, or import into another dataset"
        )

#| export
def _counted(
    bars,  # (date, symbol)
) -> str:
    "Write how many bars of how many symbols there are."
    names = bars.index.unique("symbol").size
    return f"{len(bars):,} bars of {names} symbol{'s' * (names != 1)}"


def _commit(
    lake,  # data.store.Lake
    dataset: str,
    length: str,  # of the bars
    bars,  # (date, symbol)
    revise: bool,  # replace stored rows that say something else
) -> None:
    "Store bars, and print what the store noticed and what is there now."
    bars.attrs = {}
    with warnings.catch_warnings(record=True) as told_of:
        warnings.simplefilter("always", UserWarning)
        commit = lake.write(dataset, length, bars, revise=revise)
    for notice in told_of:
        typer.echo(f"note: {notice.message}")
    first, last = (bars.index[i][0].isoformat(sep=" ").removesuffix(" 00:00:00") for i in (0, -1))
    typer.echo(f"{dataset}/{length}: {_counted(bars)} stored, {first} to {last}, {commit[:16]}")

#| export
_Place = Annotated[
    Path,
    typer.Argument(help="CSV, text, Parquet or Excel, plain or .gz or .zip; a folder of them; or a Qlib folder."),
]
_Dataset = Annotated[str, typer.Option(help="Name in the lake.")]
_Column = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OURS=THEIRS",
        help="Which column is what, where the guess is wrong; OURS=none leaves one out; repeatable.",
    ),
]
_Interval = Annotated[
    str | None, typer.Option(help="How long the bars are, where their stamps do not show it: 1d, 1w, 1h, 15min.")
]
_DateForm = Annotated[str | None, typer.Option(help="How dates are written, when that is ambiguous: %d/%m/%Y.")]
_Symbol = Annotated[str | None, typer.Option(help="Of a file without a symbol column; its name when absent.")]
_Zone = Annotated[str | None, typer.Option(help="Of intraday stamps without one: America/New_York.")]

#| export
_Stamps = Annotated[str | None, typer.Option(help="start or end: what stamps mark.")]
_Decimal = Annotated[str | None, typer.Option(help="The decimal sign, when that is ambiguous.")]
_Thousands = Annotated[str | None, typer.Option(help="The sign between thousands.")]
_Split = Annotated[
    str | None, typer.Option(help="How to read a column of splits: event, premium, factor, divisor, none.")
]
_Dividends = Annotated[
    str | None, typer.Option(help="cash: prices do not hold the dividends of the file; none: leave them out.")
]
_Volume = Annotated[str | None, typer.Option(help="Of a Qlib store: adjusted or raw.")]
_Suspended = Annotated[str | None, typer.Option(help="Of a Qlib store, bars of days without trade: drop or keep.")]
_Revise = Annotated[
    bool, typer.Option("--revise", help="Replace stored bars of the same dates that say something else.")
]
_Repair = Annotated[
    list[str] | None,
    typer.Option(metavar="STEP", help="Mend and count: drop_duplicates, drop_missing ...; repeatable, in this order."),
]
_Yes = Annotated[bool, typer.Option("--yes", help="Store without asking; what is open refuses.")]

#| exporti
@data_app.command("import")
def import_bars(
    place: _Place,
    dataset: _Dataset,
    column: _Column = None,
    interval: _Interval = None,
    date_form: _DateForm = None,
    symbol: _Symbol = None,
    zone: _Zone = None,
    stamps: _Stamps = None,
    decimal: _Decimal = None,
    thousands: _Thousands = None,
    split: _Split = None,
    dividends: _Dividends = None,
    volume: _Volume = None,
    suspended: _Suspended = None,
    revise: _Revise = False,
    repair: _Repair = None,
    yes: _Yes = False,
) -> None:
    "Show how files are read and, once confirmed, store their bars."
    given = {"date_form": date_form, "symbol": symbol, "zone": zone, "stamps": stamps, "decimal": decimal}
    given |= {"thousands": thousands, "split": split, "dividends": dividends, "volume": volume, "suspended": suspended}
    told = {name: value for name, value in given.items() if value is not None}
    columns, steps = _pairs(column), repair or []
    told |= {"interval": as_interval(interval)} if interval else {}
    _check_line(place, dataset, told, steps)

    from quantlab.data.store import Lake

    bars, length = _from_place(place, columns, told, steps, not yes)
    lake = Lake()
    _check_names(lake, dataset, bars)
    if not yes and not typer.confirm(f"store {_counted(bars)} as {dataset}/{length}?"):
        raise typer.Exit(2)
    _commit(lake, dataset, length, bars, revise)

#| exporti
@data_app.command("list")
def list_datasets() -> None:
    "List what the lake holds."
    from quantlab.data.store import Lake

    found = Lake().datasets()
    if found.empty:
        typer.echo("the lake is empty; try: quantlab data import FILE --dataset NAME")
    else:
        show_table(
            found.assign(**{edge: list(map(_moment, found[edge], found["interval"])) for edge in ("first", "last")})
        )


def _moment(
    text: str,  # of a manifest: a session, or the end of a bar in UTC
    interval: str,
) -> str:
    "Write a session as a date, the end of a bar with its time."
    plain = text.replace("T", " ").removesuffix("+00:00")
    return f"{plain}Z" if Interval(interval).intraday else plain.removesuffix(" 00:00:00")


@data_app.command()
def health(
    dataset: Annotated[str, typer.Argument(help="Name in the lake.")],
    interval: Annotated[str, typer.Option(help="1d, 1h, 15min ...")] = "1d",
    calendar: Annotated[
        str,
        typer.Option(
            help="Exchange whose sessions are expected, such as XNYS; absent: dates that half of the names have."
        ),
    ] = "",
) -> None:
    "Count the faults of a dataset; the page with pictures: quantlab report data_health."
    from quantlab.data.quality import count_findings, expected_sessions, findings
    from quantlab.data.store import Lake

    bars = Lake().read(dataset, interval)
    found = findings(bars, expected_sessions(bars, calendar, interval))
    typer.echo(f"{len(found):,} findings in {len(bars):,} rows")
    if len(found):
        show_table(count_findings(found).reset_index())

#| exporti
@data_app.command()
def refresh(
    vendor: Annotated[
        str,
        typer.Argument(
            help="yahoo, polygon, nasdaq, one that an installed package offers, or an exchange of ccxt such as binance."
        ),
    ],
    symbols: Annotated[str, typer.Argument(help="Separated by commas.")],
    start: Annotated[str, typer.Option(help="First date; what is stored is not fetched again.")] = "2010-01-01",
    interval: Annotated[str, typer.Option(help="1d, 1h, 15min ...")] = "1d",
) -> None:
    "Download what is not stored yet, up to the last finished bar."
    import pandas as pd

    from quantlab.core.config import path
    from quantlab.data.store import Lake
    from quantlab.vendors.crypto import Crypto
    from quantlab.vendors.download import Download, State
    from quantlab.vendors.provider import find_provider, providers

    source = find_provider(vendor) if vendor in providers() else Crypto(vendor)
    wanted = [name.strip() for name in symbols.split(",") if name.strip()]
    with progress_bar() as show:
        job = Download(
            Lake(),
            State(path("data", "lake") / "downloads.json"),
            progress=lambda symbol, number, total: show(number, total, symbol),
        )
        try:
            got = job.backfill(source, wanted, start, pd.Timestamp.now("UTC"), interval)
        except KeyboardInterrupt:
            typer.echo("interrupted: what came is stored, the same line goes on from there", err=True)
            raise typer.Exit(130) from None
    show_table(got.reset_index())

#| exporti
@data_app.command()
def export(
    dataset: Annotated[str, typer.Argument(help="Name in the lake.")],
    to: Annotated[Path, typer.Argument(help="A .csv or .parquet file, or a new folder for a Qlib store.")],
    interval: Annotated[str, typer.Option(help="1d, 1h, 15min ...")] = "1d",
    zone: Annotated[str | None, typer.Option(help="Of the stamps of a Qlib store of minutes: Asia/Shanghai.")] = None,
    stamps: Annotated[str | None, typer.Option(help="What those mark: start or end.")] = None,
    formulas: Annotated[
        bool, typer.Option("--formulas", help="CSV: leave texts that a spreadsheet would run as they are.")
    ] = False,
) -> None:
    "Write a dataset as CSV, Parquet or a Qlib store."
    from quantlab.data.files import write_csv
    from quantlab.data.store import Lake
    from quantlab.vendors.qlib_write import write_qlib

    bars = Lake().read(dataset, interval)
    if to.exists():
        raise ConfigError(f"{to} exists; name another file or remove it yourself")
    if to.suffix == ".csv":
        write_csv(bars.reset_index(), to, formulas)
    elif to.suffix == ".parquet":
        bars.reset_index().to_parquet(to, index=False)
    else:
        write_qlib(bars, to, interval=interval, zone=zone, stamps=stamps)
    typer.echo(f"{len(bars):,} bars written to {to}")

#| export
@data_app.command("share")
def share_data(
    remote: Annotated[
        str, typer.Option(help="Where to, the first time: a folder, or an address of DVC such as s3://bucket/path.")
    ] = "",
) -> None:
    "Send the lake to a remote and name its version in a file for git; needs the program dvc."
    from quantlab.core.config import display_path
    from quantlab.vendors.share import share_lake

    sent = share_lake(remote)
    typer.echo(f"{sent.files} files, {sent.size:,} bytes, version {sent.md5[:12]}; commit {display_path(sent.file)}")


@data_app.command("fetch")
def fetch_data() -> None:
    "Bring the lake that this checkout means; what was never shared is not overwritten."
    from quantlab.vendors.share import fetch_lake

    got = fetch_lake()
    typer.echo(f"{got.files} files, {got.size:,} bytes, version {got.md5[:12]}")

#| export
def _free_place(
    out: str,  # lake:NAME, or a file
) -> str:  # the name in the lake; empty: it is a file
    "Raise ConfigError for a place that cannot receive a market, before one is made."
    dataset, file = out.partition("lake:")[2] if out.startswith("lake:") else "", Path(out)
    if dataset:
        return dataset
    if file.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"{out} is neither a .parquet or .csv file nor lake:NAME; name one of them")
    if file.exists():
        raise ConfigError(f"{out} exists; name another file or remove it yourself")
    if not file.parent.is_dir():
        raise ConfigError(f"the folder {file.parent} does not exist; make it first")
    return ""

#| export
def _write(
    frame,  # panel (date, symbol)
    file: Path,  # .parquet or .csv; not there yet
) -> None:
    "Write a panel to a file, which appears whole."
    part = file.with_name(f".{file.name}.part")
    try:
        rows = frame.reset_index()
        rows.to_csv(part, index=False) if file.suffix == ".csv" else rows.to_parquet(part, index=False)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def _store(
    bars,  # (date, symbol)
    dataset: str,  # of the lake
) -> None:
    "Write bars as a new dataset of the lake; raise ConfigError where there is one of that name."
    from quantlab.data.store import Lake

    if dataset in set(Lake().datasets()["dataset"]):
        raise ConfigError(f"the lake holds '{dataset}' already; name another dataset")
    Lake().write(dataset, "1d", bars)

#| export
def _next_line(
    data: str,  # lake:NAME, or a file
    symbols: int,
    dates: tuple[str, str],  # first and last session
    sessions: int,  # at least 500
) -> str:
    "Write the line that runs a backtest on a synthetic market."
    words = [f"data={data}", f"start={dates[0]}", f"end={dates[1]}"]
    if symbols <= 45:  # the default holds 30 of them
        words.append(f"top_k={max(1, symbols // 3)}")
    if symbols <= 25:  # the default regresses on 19 features within each date
        words.append("feature_set=range_vol")
    if sessions < 1500:  # the default learns from 756; a year of look-back and a year to be judged on are kept
        words += [f"train_sessions={max(60, sessions // 2 - 150)}", "test_sessions=63"]
    return "quantlab report tearsheet " + " ".join(f"-p {shlex.quote(word)}" for word in words)

#| export
_BOOK_OPTIONS = ("output", "minutes", "branching", "cancel", "levels")
_BAR_OPTIONS = ("symbols", "sessions", "ic", "horizon", "persistence", "regimes", "factor")
_LIKE_OPTIONS = ("method", "days", "paths", "place")  # --out is place


def _check_kind(
    said: set[str],  # options that were given
    out: str | None,  # where bars go
    book: bool,
    like: bool = False,  # a market like given data
) -> None:
    "Raise ConfigError for options of the other kind of market, and for a place that is missing or taken."
    if like:
        strange = [f"--{name}" for name in ("book", *_BAR_OPTIONS, *_BOOK_OPTIONS) if name in said]
        if strange:
            raise ConfigError(f"{', '.join(strange)} does not go with --like; leave it out")
        return
    if asked := ["--out" if name == "place" else f"--{name}" for name in _LIKE_OPTIONS if name in said]:
        raise ConfigError(f"{', '.join(asked)} is about a market like given data; add --like sample or other data")
    strange = [f"--{name}" for name in (_BAR_OPTIONS if book else _BOOK_OPTIONS) if name in said]
    if strange:
        kinds = ("bars", "leave out --book") if book else ("a book", "add --book")
        raise ConfigError(f"{', '.join(strange)} is about {kinds[0]}; leave it out, or {kinds[1]}")
    if book and (out is not None or "output" not in said):
        raise ConfigError("a book goes into a new folder: quantlab synth --book --output FOLDER")
    if not book and out is None:
        raise ConfigError("say where the bars go: a new .parquet or .csv file, or lake:NAME")


def _free_folder(
    folder: Path,
) -> None:
    "Raise ConfigError for a folder that cannot be made."
    if folder.exists():
        raise ConfigError(f"{folder} exists; name another folder or remove it yourself")
    if not folder.parent.is_dir():
        raise ConfigError(f"the folder {folder.parent} does not exist; make it first")

#| export
def _planted_flows(
    minutes: float,  # of the book
    branching: float,  # trades that one trade begets, below 1
    cancel: float,  # 1 / seconds; hazard of every resting order
):  # FlowSpec
    "Return flows of the usual mean rates with as much excitation as is asked for."
    from dataclasses import replace

    import numpy as np

    from quantlab.micro.simulate import FlowSpec

    usual = FlowSpec()
    answers = np.asarray(usual.branching) * (branching / sum(row[0] for row in usual.branching[:2]))
    baseline = (np.eye(4) - answers) @ usual.rates
    plain = (tuple(float(x) for x in baseline), tuple(tuple(float(x) for x in row) for row in answers))
    return replace(usual, baseline=plain[0], branching=plain[1], cancel=cancel, end=usual.start + 60 * minutes)


def _truth_of(
    spec,  # FlowSpec
    seed: int,
) -> dict:
    "Return what is planted, for JSON; trades: of all market orders together, one Hawkes process."
    from dataclasses import asdict

    from quantlab.micro.simulate import FLOWS

    share = sum(row[0] for row in spec.branching[:2])
    trades = {"mu": sum(spec.baseline[:2]), "alpha": share * spec.beta, "beta": spec.beta, "branching": share}
    rates = dict(zip(FLOWS, map(float, spec.rates), strict=True))
    return {"seed": seed, "flows": asdict(spec), "rates": rates, "trades": trades}

#| export
def _write_rows(
    frame,  # of numbers
    file: Path,
) -> None:
    "Write rows of numbers without a header, each float with all of its digits."
    columns = [map(repr, frame[name].tolist()) for name in frame]
    file.write_text("\n".join(map(",".join, zip(*columns, strict=True))) + "\n")


def _write_book(
    folder: Path,  # not there yet
    minutes: float,  # of the book
    branching: float,  # trades that one trade begets
    cancel: float,  # 1 / seconds; hazard of every resting order
    levels: int,  # of each side
    seed: int,
) -> None:
    "Make a book and write messages, levels and truth into a folder that appears whole; name the report on it."
    from tempfile import TemporaryDirectory

    from quantlab.micro.book import rebuild_book
    from quantlab.micro.simulate import simulate_book

    spec = _planted_flows(minutes, branching, cancel)
    messages = simulate_book(spec, seed).messages
    files = {name: f"{name}_{levels}.csv" for name in ("message", "orderbook")}
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        part = Path(made) / folder.name
        part.mkdir()
        _write_rows(messages, part / files["message"])
        _write_rows(rebuild_book(messages, levels), part / files["orderbook"])
        (part / "truth.json").write_text(json.dumps(_truth_of(spec, seed), indent=1) + "\n")
        part.rename(folder)
    trades = messages.loc[messages["type"].isin([4, 5]), "time"].nunique()
    typer.echo(
        f"{folder}: {len(messages):,} messages, {trades:,} trades in {minutes:g} minutes; {levels} level"
        f"{'s' * (levels > 1)} a side; a trade begets {branching:g} others ({folder / 'truth.json'})"
    )
    words = [f"messages={folder.resolve() / files['message']}", f"book={folder.resolve() / files['orderbook']}"]
    typer.echo("quantlab report micro " + " ".join(f"-p {shlex.quote(word)}" for word in words))

#| exporti
_METHODS = ("bootstrap", "garch", "regime", "heston", "vine", "learned")  # deep.learned.MAKERS, which is not loaded yet


def _check_like(
    like: str,  # sample, lake:NAME, qlib:NAME, or a file
    method: str,
) -> str:  # the data as load_market takes it
    "Raise ConfigError, with a near word, for data or a method that is not there."
    from difflib import get_close_matches

    hint = lambda name, known: f"did you mean {near[0]}? " if (near := get_close_matches(name, known, 1)) else ""
    if method not in _METHODS:
        raise ConfigError(f"--method is {method!r}; {hint(method, _METHODS)}use {', '.join(_METHODS)}")
    if like.startswith("lake:"):
        from quantlab.data.store import Lake

        there = [f"lake:{name}" for name in Lake().datasets()["dataset"]]
        if like not in there:
            raise ConfigError(f"there is no {like}; {hint(like, there)}the lake has {', '.join(there) or 'nothing'}")
    elif like != "sample" and not like.startswith("qlib:"):
        if not Path(like).is_file():
            raise ConfigError(f"there is no data {like}; {hint(like, ['sample'])}give sample, lake:NAME or a file")
        return str(Path(like).resolve())
    return like


def _like_places(
    place: str | None,  # lake:NAME or a file; None: a name is made
    like: str,
    method: str,
    paths: int,
) -> list[str]:  # one a path, none there yet
    "Name where each path goes; raise ConfigError for a name that does not say synthetic, or a place that is taken."
    source = Path(like.partition(":")[2] or like).stem.lower()
    name = place or f"lake:{source}_synthetic_{method}"
    if "synthetic" not in Path(name).name.lower():
        file = Path(name).with_stem(f"{Path(name).stem}_synthetic")
        near = f"{name}_synthetic" if name.startswith("lake:") else file
        raise ConfigError(f"{name} could pass for real data; say so in the name: {near}")
    if paths == 1:
        places = [name]
    elif name.startswith("lake:"):
        places = [f"{name}_{i + 1}" for i in range(paths)]
    else:
        places = [str(Path(name).with_stem(f"{Path(name).stem}_{i + 1}")) for i in range(paths)]
    for one in places:
        _free_place(one)
    return places

#| exporti
def _write_like(
    like: str,  # sample, lake:NAME, qlib:NAME, or a file of daily bars
    place: str | None,  # lake:NAME or a file
    method: str,  # of _METHODS
    days: int,  # of each path
    paths: int,
    seed: int,
) -> None:
    "Fit a maker to bars, and write what it makes, path by path."
    source, places = _check_like(like, method), _like_places(place, like, method, paths)
    with progress_bar() as show:
        show(0, paths + 2, f"reading {like}")
        from quantlab.deep.generate import fit_generator
        from quantlab.deep.learned import MAKERS
        from quantlab.recipe.market import load_market
        from quantlab.strategy.made_bars import complete_returns, made_bars

        bars = load_market(source, "all", "1800-01-01", "2200-01-01").bars
        if bars.index.unique("date").tz is not None:
            raise ConfigError(f"{like} holds bars within the day; --like makes daily ones: export them by day first")
        returns = complete_returns(bars)
        show(1, paths + 2, f"fitting {method} to {returns.shape[1]} symbols")
        made = fit_generator(returns, method, MAKERS).generate(days, paths, seed)
        for i, one in enumerate(places):
            show(i + 2, paths + 2, f"writing {one}")
            drawn = made_bars(bars, made.loc[i], seed + i)
            _store(drawn, one.removeprefix("lake:")) if one.startswith("lake:") else _write(drawn, Path(one))
    left = bars.index.unique("symbol").size - returns.shape[1]
    for one in places:
        count = f"{days * returns.shape[1]:,} synthetic bars of {returns.shape[1]} symbols"
        typer.echo(f"{one}: {count} like {like}, by {method}")
    if left:
        typer.echo(f"{left} symbols without a bar on every date were left out", err=True)

#| exporti
synth_app = typer.Typer()
_REGIMES = {"states": True, "none": False, "garch": "garch"}


def _write_market(
    out: str,  # a file or lake:NAME
    settings: tuple,  # of synth_market: symbols, sessions, ic, horizon, persistence
    regimes: str,  # of _REGIMES
    seed: int,
    factor: Path | None,  # where the planted factor goes
) -> None:
    "Make bars, write them, and name the backtest on them."
    if regimes not in _REGIMES:
        raise ConfigError(f"--regimes is {regimes!r}; use {' or '.join(_REGIMES)}")
    dataset = _free_place(out)
    if factor is not None:
        _free_place(str(factor))

    from quantlab.data.synth import synth_market

    symbols, sessions, ic, horizon, persistence = settings
    weather = _REGIMES[regimes]
    world = synth_market(symbols, sessions, ic, horizon, persistence, seed=seed, regimes=weather)
    _store(world.bars, dataset) if dataset else _write(world.bars, Path(out))
    if factor is not None:
        _write(world.features[["factor"]].rename(columns={"factor": "score"}), factor)
    first, last = (f"{world.bars.index[i][0]:%Y-%m-%d}" for i in (0, -1))
    planted = f"a factor with a rank IC of {ic:g} over {horizon} sessions is planted" if ic else "nothing is planted"
    typer.echo(f"{out}: {len(world.bars):,} bars of {symbols} symbols, {first} to {last}; {planted}")
    typer.echo(_next_line(out, symbols, (first, last), sessions))


@synth_app.command()
def synth(
    told: typer.Context,
    out: Annotated[str | None, typer.Argument(help="A new .parquet or .csv file, or lake:NAME.")] = None,
    symbols: Annotated[int, typer.Option(min=5, help="Names in the market.")] = 50,
    sessions: Annotated[int, typer.Option(min=500, help="Days, from 2015 on.")] = 1500,
    ic: Annotated[float, typer.Option(help="Rank IC of the planted factor with the return ahead; 0: nothing.")] = 0.05,
    horizon: Annotated[int, typer.Option(min=1, help="Sessions of that return.")] = 20,
    persistence: Annotated[float, typer.Option(help="Of the factor from day to day, below 1.")] = 0.95,
    regimes: Annotated[str, typer.Option(help="Weather of the market: states, none or garch.")] = "states",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same market.")] = 7,
    factor: Annotated[Path | None, typer.Option(help="Write the planted factor there, as predictions.")] = None,
    book: Annotated[bool, typer.Option("--book", help="An order book in LOBSTER's files instead of bars.")] = False,
    output: Annotated[Path | None, typer.Option(help="With --book: the new folder.")] = None,
    minutes: Annotated[float, typer.Option(min=1, max=390, help="With --book: its length.")] = 30,
    branching: Annotated[float, typer.Option(min=0, max=0.95, help="With --book: trades that one begets.")] = 0.55,
    cancel: Annotated[float, typer.Option(min=1e-4, max=1, help="With --book: hazard of an order a second.")] = 0.02,
    levels: Annotated[int, typer.Option(min=1, max=10, help="With --book: levels of each side.")] = 1,
    like: Annotated[str | None, typer.Option(metavar="DATA", help="Make one like sample, lake:NAME or a file.")] = None,
    method: Annotated[str, typer.Option(help=f"With --like: {', '.join(_METHODS)}.")] = "bootstrap",
    days: Annotated[int, typer.Option(min=1, help="With --like: sessions of a path.")] = 1000,
    paths: Annotated[int, typer.Option(min=1, max=1000, help="With --like: markets, each in its own place.")] = 1,
    place: Annotated[str | None, typer.Option("--out", help="With --like: where to; says synthetic.")] = None,
) -> None:
    "Make a market whose answer is known, bars or an order book, or one like given data; name the report on it."
    said = {name for name in told.params if told.get_parameter_source(name).name == "COMMANDLINE"}
    _check_kind(said, out, book, like is not None)
    if like is not None:
        _write_like(like, place or out, method, days, paths, seed)
    elif book:
        _free_folder(output)
        _write_book(output, minutes, branching, cancel, levels, seed)
    else:
        _write_market(out, (symbols, sessions, ic, horizon, persistence), regimes, seed, factor)
