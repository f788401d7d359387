"""The analyzers through the command line, on one real run and on published files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from xfw.cli.main import invoke
from xfw.store.rundir import find_run
from xfw_psa.analysis import ANALYZERS
from xfw_psa.config import MODES


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results directory with one run: two plain networks, all modes, three trials, three loops."""
    folder = tmp_path_factory.mktemp("results")
    keys = ["-s", "arch=1*8,4*4", "-s", "family=simplemlp", "-s", "mode=all", "-s", "meta_loops=3"]
    place = ["--results-dir", str(folder), "--device", "cpu", "--jobs", "0", "--seed", "3", "--quiet"]
    assert invoke(["run", "psa", *keys, "--trials", "3", *place]) == 0
    return folder


@pytest.fixture(scope="module")
def published(results: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the two published files of that run, by the name of the option that reads them."""
    folder = tmp_path_factory.mktemp("published")
    assert invoke(["analyze", "@last", "result-files", "--results-dir", str(results), "-o", str(folder)]) == 0
    return {
        "summary_file": str(folder / "psa_simplemlp_summary.md"),
        "trials_file": str(folder / "psa_simplemlp_trials.md"),
    }


def objects(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[dict[str, object]]]:
    """Return the tables that ``analyze --json`` prints."""
    capsys.readouterr()
    assert invoke(["analyze", *words, "--json"]) == 0
    tables: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)["tables"]
    return tables


def test_names_and_help_are_unique_and_short() -> None:
    names = [each.name for each in ANALYZERS]
    assert len(set(names)) == len(names)
    assert all(0 < len(each.help) < 100 for each in ANALYZERS)


def test_a_run_gets_everything_that_is_about_it(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["analyze", "@last", "--results-dir", str(results), "--format", "md,tex,csv,png"]) == 0
    said = capsys.readouterr().out
    for name in ("architecture-table", "dataset", "reproduction-script"):
        assert f"left out: {name} (needs no run: xfw analyze psa {name})" in said
    report = find_run(results, "@last").report_dir
    made = {path.name for path in report.iterdir()}
    assert made >= {
        "trial-accuracy-table.tex",
        "psa_simplemlp_summary.md",
        "psa_simplemlp_trials.md",
        "growth.md",
        "convergence.md",
        "regimes.csv",
        "regime-counts.md",
    }


def test_tables_come_out_byte_for_byte_the_same(results: Path, tmp_path: Path) -> None:
    names = ("trial-accuracy-table", "result-files", "growth", "regimes")
    for folder in ("one", "two"):
        place = ["--results-dir", str(results), "-o", str(tmp_path / folder)]
        assert invoke(["analyze", "@last", *names, *place]) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}


def test_result_files_hold_the_runs_peaks(results: Path, published: dict[str, str]) -> None:
    text = Path(published["summary_file"]).read_text()
    assert text.startswith("# Persistent Stochastic Ablation - SimpleMLP Results Summary\n\n## Statistical Summary\n")
    assert "Results Shape {1*8} Parameters {6370}\n* None: Mean=" in text
    assert text.count("(n=3)") == 12
    trials = Path(published["trials_file"]).read_text()
    assert trials.count("| 3 | ") == 2


def test_networks_without_a_run_have_no_job(results: Path, tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("4*4\n2*2\n")
    place = ["--results-dir", str(results), "-o", str(tmp_path), "-s", f"config_file={tmp_path / 'nets'}"]
    assert invoke(["analyze", "@last", "result-files", *place]) == 0
    summary = (tmp_path / "psa_simplemlp_summary.md").read_text()
    assert summary.count("NO_JOB_FOUND") == 6
    assert summary.index("{4*4}") < summary.index("{2*2}")
    assert "{1*8}" not in summary
    assert "No successful trials" in (tmp_path / "psa_simplemlp_trials.md").read_text()


@pytest.mark.parametrize("option", ["summary_file", "trials_file"])
def test_published_files_stand_in_for_a_run(
    option: str, published: dict[str, str], results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--results-dir", str(tmp_path), "-s", f"{option}={published[option]}")
    (row,) = [
        each
        for each in objects(capsys, "psa", "trial-accuracy-table", *place)["trial-accuracy-table"]
        if each["architecture"] == "1*8"
    ]
    there = objects(capsys, "@last", "trial-accuracy-table", "--results-dir", str(results))["trial-accuracy-table"][0]
    for mode in MODES:
        assert row[f"mean_{mode}"] == pytest.approx(there[f"mean_{mode}"], abs=0.01)
    assert (tmp_path / "psa" / "report" / "trial-accuracy-table.tex").exists()
    assert "regimes" in objects(capsys, "psa", "regimes", *place)


def test_regimes_of_a_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = objects(capsys, "@last", "regimes", "--results-dir", str(results), "-s", "rules=v1")
    assert [row["architecture"] for row in tables["regimes"]] == ["1*8", "4*4"]
    counts = {str(row["regime"]): row["count"] for row in tables["regime-counts"]}
    assert sum(int(str(count)) for count in counts.values()) == 2


def test_listed_networks_without_data_are_unknown(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nets").write_text("4*4\n2*2\n")
    place = ("--results-dir", str(results), "-s", f"config_file={tmp_path / 'nets'}")
    rows = objects(capsys, "@last", "regimes", *place)["regimes"]
    assert rows[1]["regime"] == "unknown"
    assert rows[1]["mean_none"] is None


def test_latex_alone_goes_to_standard_output(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert invoke(["analyze", "@last", "trial-accuracy-table", "-s", "output=-", "--results-dir", str(results)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("{\\tiny\n")
    assert said.endswith("\\end{longtable}\n}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trial-accuracy-table", "-s", "trials_file=/no/file.md"), "cannot read '/no/file.md'"),
        (("regimes", "-s", "config_file=/no/nets.txt"), "cannot read '/no/nets.txt'"),
        (("architecture-table", "-s", "asymmetric_file=/no/nets.txt"), "cannot read '/no/nets.txt'"),
        (("growth", "-s", "logs=/no/logs"), "cannot read '/no/logs'"),
        (("architecture-table", "-s", "param_formula=plain"), "expected one of actual, plain-mlp"),
        (("trial-accuracy-table", "-s", "metric=peak"), "expected one of validation-peak, test"),
        (("reproduction-script", "-s", "trials=0"), "$.trials"),
    ],
)
def test_wrong_input_is_named_on_one_line(
    words: tuple[str, ...], said: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = "psa" if words[0] in ("architecture-table", "reproduction-script") else "@last"
    capsys.readouterr()
    assert invoke(["analyze", run, *words, "--results-dir", str(results)]) == 2
    assert said in capsys.readouterr().err


def test_analyzers_of_results_ask_for_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["analyze", "psa", "trial-accuracy-table", "--results-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "analyzer 'trial-accuracy-table' cannot work here: there is no run yet" in said
