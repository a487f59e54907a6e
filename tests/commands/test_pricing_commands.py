"quantlab calibrate: what it reads, what it refuses in one line, and that what it writes is what the fit found."

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from quantlab.commands.pricing_commands import CalibrationSettings, chain_quotes, pricing_app, read_calibration
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_options
from quantlab.pricing.calibrate import fit_heston
from quantlab.pricing.chain import chain_from_contracts

EVENING = "2026-01-30 16:00-05:00"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("chain")
    sample_options().to_csv(place / "vendor.csv", index=False)
    chain_from_contracts(sample_options(), EVENING).to_parquet(place / "own.parquet")
    return place


def test_a_vendors_file_and_our_own_give_the_same_quotes(place):
    told = CalibrationSettings(quoted=EVENING, rate=0.0365, roots=["SPXW"])
    every, vendor = chain_quotes(place / "vendor.csv", told)
    _, own = chain_quotes(place / "own.parquet", told.model_copy(update={"quoted": ""}))
    pd.testing.assert_frame_equal(vendor, own)
    assert (every["fault"] != "").any() and (vendor["fault"] == "").all()


def test_a_flat_curve_is_its_rate_and_settings_choose(place):
    told = CalibrationSettings(quoted=EVENING, rate=0.0365, roots=["SPXW"], least_days=30)
    _, quotes = chain_quotes(place / "vendor.csv", told)
    _, curve = chain_quotes(place / "vendor.csv", told.model_copy(update={"rate": {0.5: 0.0365, 1.0: 0.0365}}))
    pd.testing.assert_frame_equal(quotes, curve)
    _, less = chain_quotes(place / "vendor.csv", told.model_copy(update={"drop": ["2026-03-06"], "per_expiry": 7}))
    assert quotes["years"].min() * 365 > 30 and len(set(quotes["years"])) == len(set(less["years"])) + 1
    assert less.groupby("years").size().max() == 7


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("- rate", [], "holds no settings"),
        ("rate: [", [], "is no YAML"),
        ("rate: 0.03", ["rates=1"], "setting rates"),
        ("rate: .nan", [], "setting rate"),
        ("1: 2", [], "setting"),
        ("", ["error=mids"], "setting error"),
        ("", ["jumps"], "is no setting"),
        ("low: 0", [], "setting low"),
    ],
)
def test_settings_that_are_none_are_refused(tmp_path, text, given, said):
    (tmp_path / "fit.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_calibration(tmp_path / "fit.yaml", given)


def test_files_that_are_no_chain_are_refused(place, tmp_path):
    told = CalibrationSettings(quoted=EVENING, rate=0.0365)
    (tmp_path / "words.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for name in ("words.csv", "empty.csv", "broken.parquet", "none.csv"):
        with pytest.raises(DataError):
            chain_quotes(tmp_path / name, told)
    (tmp_path / "head.csv").write_text("contractSymbol,bid,ask\n")
    with pytest.raises(DataError, match="has no rows"):
        chain_quotes(tmp_path / "head.csv", told)
    with pytest.raises(ConfigError, match="when the quotes stood"):
        chain_quotes(place / "vendor.csv", CalibrationSettings())
    with pytest.raises(DataError, match="its roots are SPX, SPXW"):
        chain_quotes(place / "vendor.csv", told.model_copy(update={"roots": ["NDX"]}))


def test_what_is_written_is_what_the_fit_found(place, tmp_path):
    line = ["calibrate", "heston", str(place / "vendor.csv"), "-p", f"quoted={EVENING}", "-p", "rate=0.0365"]
    line += ["-p", "roots=[SPXW]", "-p", "per_expiry=8", "--output", str(tmp_path / "fit.json")]
    done = CliRunner().invoke(pricing_app, line)
    assert done.exit_code == 0 and done.stdout.splitlines()[-1] == str(tmp_path / "fit.json")
    told = CalibrationSettings(quoted=EVENING, rate=0.0365, roots=["SPXW"], per_expiry=8)
    fit = fit_heston(chain_quotes(place / "vendor.csv", told)[1])
    kept = json.loads((tmp_path / "fit.json").read_text())
    assert {n: v["value"] for n, v in kept["numbers"].items()} == pytest.approx(fit.table["value"].to_dict())
    assert [row["rmse"] for row in kept["expiries"]] == pytest.approx(fit.expiries["rmse"].tolist())
    assert CalibrationSettings(**kept["settings"]) == told
    refused = CliRunner().invoke(pricing_app, [*line[:-1], str(tmp_path / "none" / "fit.json")])
    assert "there is no folder" in str(refused.exception)


def test_days_and_times_are_read_as_they_are_written():
    told = read_calibration(
        None, ["drop=[2026-03-10, 2026-03-11]", "settles={SPXW: 16:00}", "rate=0.0365", "jumps=true"]
    )
    assert told.drop == ["2026-03-10", "2026-03-11"] and told.settles == {"SPXW": "16:00"}
    assert told.rate == 0.0365 and told.jumps is True
    assert read_calibration(None, ["rate={0.5: 0.03, 1: 0.04}"]).rate == {0.5: 0.03, 1.0: 0.04}
    with pytest.raises(ConfigError, match="is no YAML"):
        read_calibration(None, ["drop=[a"])


def test_two_underlyings_and_moments_that_are_none_are_refused(place, tmp_path):
    own = pd.read_parquet(place / "own.parquet")
    other = own.assign(root="XOM", strike=own["strike"] / 2, bid=own["bid"] / 2, ask=own["ask"] / 2)
    pd.concat([own[own["root"] == "SPXW"], other], ignore_index=True).to_parquet(tmp_path / "two.parquet")
    with pytest.raises(DataError, match="has several underlyings"):
        chain_quotes(tmp_path / "two.parquet", CalibrationSettings(rate=0.0365))
    for wrong in ({"quoted": "yesterdayish"}, {"zone": "Mars/X"}, {"settles": {"SPX": "4pm"}}):
        with pytest.raises((ConfigError, DataError)):
            chain_quotes(place / "vendor.csv", CalibrationSettings(**({"quoted": EVENING, "rate": 0.0365} | wrong)))
    vendor = pd.read_csv(place / "vendor.csv")
    vendor.drop(columns="bid").to_csv(tmp_path / "bare.csv", index=False)
    with pytest.raises(DataError, match="has no column bid"):
        chain_quotes(tmp_path / "bare.csv", CalibrationSettings(quoted=EVENING, rate=0.0365))
