"""What `make bench` measures the lists, the exports and the interface with runs, on fleets of some hundreds, and its figures are there; whether they are good
is for `make bench` to say."""

import importlib.machinery
import importlib.util
import json
import math
import subprocess
import sys

import pytest

from parts import BIN, ROOT

sys.path.append(str(ROOT / "tests/bench"))

import api  # noqa: E402
import compare  # noqa: E402
import export  # noqa: E402
import million  # noqa: E402

SMALL = {
    api: {"DEVICES": 400, "ROUNDS": 2},
    million: {"DEVICES": 400, "ROUNDS": 1},
    export: {"DEVICES": 400, "ROUNDS": 1, "LOAD_DEVICES": 20, "FULL_ROUNDS": 5, "LOAD_S": 1},
    compare: {"DEVICES": 400, "ROUNDS": 1, "BLOCK": 3, "CSV_ROUNDS": 1},
}
# Beside what goals are set for.
MORE = {
    api: ["devices", "row_us", "fleet_us", "degraded_us", "alerts_us"],
    million: ["devices", "row_us", "row_wait_us", "device_ratio"],
    export: ["devices", "copy_s", "csv_s", "ndjson_s", "cyclonedx_s", "ndjson_ratio", "cyclonedx_ratio", "csv_grown_mb", "ingest_rate", "ingest_alone", "ingest_beside", "exports_beside"],
    compare: ["devices", *(f"{what}_{who}_{unit}" for what in ("device", "page") for who in ("postgres", "fleetstate", "node") for unit in ("us", "cpu_us")),
              *(f"csv_{who}_s" for who in ("postgres", "fleetstate", "node")), *(f"{what}_of_{who}" for what in ("device", "page", "csv") for who in ("postgres", "node"))],
}


@pytest.fixture(scope="module")
def run():
    """tests/bench/run."""
    loader = importlib.machinery.SourceFileLoader("bench_run", str(ROOT / "tests/bench/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    loader.exec_module(module)
    return module


def shrink(monkeypatch, bench):
    for name, value in SMALL[bench].items():
        assert getattr(bench, name) > value
        monkeypatch.setattr(bench, name, value)


@pytest.mark.parametrize("bench", SMALL, ids=lambda b: b.__name__)
def test_its_figures_are_there(run, monkeypatch, tmp_path, bench):
    if bench is export:
        assert (BIN / "load").exists(), "make build/load"
    shrink(monkeypatch, bench)
    figures = bench.measure(tmp_path)
    if "left_out" in figures:
        pytest.skip(figures["left_out"])
    assert figures["devices"] == 400 and run.PARTS[bench.__name__] == bench.measure
    wanted = MORE[bench] + [key for _, part, key, _ in run.GOALS if part == bench.__name__]
    assert set(wanted) <= set(figures) and (bench is compare or len(wanted) > len(MORE[bench]))
    for name in wanted:
        assert math.isfinite(figures[name]) and (figures[name] > 0 or name.endswith(("_lost", "_mb", "_s", "_cpu_us"))), name
    if bench is million:
        orders = {way + sort for sort in million.SORTS for way in ("", "-")}
        assert set(figures["ratios"]) == set(figures["waits"]) == {"one device", "fleet", "range", *million.FILTERS, *(f"{which} {o}" for which in ("first", "deep") for o in orders)}
        assert set(figures["pages"]) == orders and figures["deep_worst"] == max(figures["pages"].values())


def test_without_npm_the_comparison_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(compare.measure(tmp_path)) == {"left_out"} and not list(tmp_path.iterdir())


@pytest.mark.parametrize("value, met", [(1.0, True), (20, True), (20.001, False)])
def test_goals_are_written_down(run, monkeypatch, tmp_path, capsys, value, met):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)  # it builds what it measures with
    monkeypatch.setattr(run, "PARTS", {"api": lambda directory: dict.fromkeys(("fleet_ratio", "degraded_ratio", "alerts_ratio", "preview_s"), value)})
    monkeypatch.setattr(sys, "argv", ["run", "api"])
    run.main()
    told = json.loads((tmp_path / "build/bench.json").read_text())
    goals = {g["name"]: g for g in told["goals"]}
    assert len(goals) == 4 and goals["fleet summary of 100,000 devices / primary-key read"] == {
        "name": "fleet summary of 100,000 devices / primary-key read", "value": value, "goal": 20, "met": met}
    assert told["figures"]["api"]["fleet_ratio"] == value and ("MISSED" in capsys.readouterr().out.splitlines()[0]) != met
