"""The two LaTeX tables: their rows, winners and ties, and that LaTeX takes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from xfw import WrongInput
from xfw.analysis.output import Output
from xfw_psa.analysis import accuracy_table, architecture_table
from xfw_psa.analysis.cells import Cell, Study, moments
from xfw_psa.config import MODES

REFERENCE = Path(os.environ.get("XFW_DATA_DIR", "")) / "psa" / "reference_half.json"
needs_reference = pytest.mark.skipif(not REFERENCE.is_file(), reason=f"{REFERENCE} is not there")


def study_of(values: Mapping[str, Mapping[str, Sequence[float]]], loops: int | None = 100) -> Study:
    found = {
        (name, mode): Cell(moments(peaks), peaks_T=peaks)  # type: ignore[arg-type]
        for name, modes in values.items()
        for mode, peaks in modes.items()
    }
    return Study(family="simplemlp", cells=found, z_val=11.02, loops=loops, origin="a file")


@pytest.fixture(scope="module")
def published() -> Study:
    content = json.loads(REFERENCE.read_text(encoding="utf-8"))["simplemlp_final"]
    return study_of(
        {name: {mode: cell["trials"] for mode, cell in row["modes"].items()} for name, row in content.items()}
    )


# --- the table of networks -------------------------------------------------------------------------------


def test_every_network_has_a_row() -> None:
    rows = architecture_table.rows(architecture_table.Options())
    assert len(rows) == 98
    assert [matching for _, _, matching in rows] == ["Matched"] * 68 + ["Asymmetric"] * 30


def test_published_counts_are_those_of_the_plain_network() -> None:
    text = architecture_table.to_latex(architecture_table.rows(architecture_table.Options(param_formula="plain-mlp")))
    assert text.index(r"1*2048 & 1,628,170 & Matched \\") < text.index(r"1*1024 & 814,090 & Matched \\")
    assert r"632*4 & 15,810 & Asymmetric \\" in text


@needs_reference
def test_published_counts_of_all_rows() -> None:
    content = json.loads(REFERENCE.read_text(encoding="utf-8"))
    plain = {row[0]: row[1:] for row in architecture_table.rows(architecture_table.Options(param_formula="plain-mlp"))}
    actual = {row[0]: row[1] for row in architecture_table.rows(architecture_table.Options())}
    for name, row in content["resmlp_preliminary"].items():
        assert plain[name] == (row["parameters_published"], row["parameter_matching"])
        assert actual[name] == row["parameters_actual"]


def test_other_lists(tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("4*4\n3*3\n")
    (tmp_path / "alone").write_text("3*3\n")
    options = architecture_table.Options(
        config_file=str(tmp_path / "nets"), asymmetric_file=str(tmp_path / "alone"), family="simplemlp"
    )
    assert architecture_table.rows(options) == [("4*4", 3_250, "Matched"), ("3*3", 2_419, "Asymmetric")]


def test_tables_are_written_in_every_format(tmp_path: Path) -> None:
    output = Output(tmp_path)
    architecture_table.analyse(None, architecture_table.Options(), output)
    assert sorted(path.name for path in output.paths) == [f"architecture-table.{form}" for form in ("csv", "md", "tex")]
    assert r"\textbf{Parameter Matching}" in (tmp_path / "architecture-table.tex").read_text()
    assert output.tables["architecture-table"][0]["parameters"] == 10_020_874


# --- the table of accuracies -----------------------------------------------------------------------------


PAPER_WINNERS = {
    "1*2048": "none",
    "1*128": "dropout",
    "1*8": "decay",
    "115*115": "Tie: none/decay/dropout/full/hidden/output",
    "71*71": "Tie: none/decay/dropout/full/hidden/output",
    "44*44": "Tie: decay/output",
    "32*32": "output",
    "30*30": "hidden",
    "26*26": "none",
    "24*24": "Tie: dropout/output",
    "18*18": "output",
    "6*6": "full",
    "4*1": "none",
}


@needs_reference
@pytest.mark.parametrize("name", PAPER_WINNERS)
def test_published_winners(published: Study, name: str) -> None:
    winners = {row.architecture: row.winner for row in accuracy_table.rows(published)}
    assert winners[name] == PAPER_WINNERS[name]


@needs_reference
def test_published_numbers_in_latex(published: Study) -> None:
    rows = accuracy_table.rows(published)
    text = accuracy_table.to_latex(rows, accuracy_table.caption_of(published, rows, "validation-peak"), "tab:x")
    assert r"$1*2048$ & $\mathbf{98.25 \pm 0.06}$ & $98.21 \pm 0.04$ & $98.20 \pm 0.05$" in text
    assert r"Tie: \texttt{decay}/\texttt{output} \\" in text
    assert "over 10 trials of 100 loops for SimpleMLP." in text
    assert len(rows) == 49


def test_means_that_differ_by_a_hundredth_are_a_tie() -> None:
    values = {mode: [98.0] for mode in MODES} | {"full": [98.01], "hidden": [98.02]}
    (row,) = accuracy_table.rows(study_of({"1*8": values}))
    assert row.winner == "Tie: full/hidden"


def test_a_mode_without_data_is_not_available() -> None:
    study = study_of({"1*8": {"none": [98.0, 99.0]}, "2*2": {"none": []}})
    rows = accuracy_table.rows(study)
    assert [row.architecture for row in rows] == ["1*8"]
    text = accuracy_table.to_latex(rows, "", "x")
    assert r"$1*8$ & $\mathbf{98.50 \pm 0.50}$ & N/A & N/A & N/A & N/A & N/A & \texttt{none} \\" in text


def test_rows_in_the_order_of_a_list(tmp_path: Path) -> None:
    study = study_of({name: {"none": [50.0]} for name in ("1*8", "18*18", "4*4")})
    assert [row.architecture for row in accuracy_table.rows(study)] == ["1*8", "18*18", "4*4"]
    (tmp_path / "nets").write_text("4*4\n18*18\n")
    rows = accuracy_table.rows(study, order=str(tmp_path / "nets"))
    assert [row.architecture for row in rows] == ["4*4", "18*18", "1*8"]


def test_captions_say_what_the_data_have() -> None:
    study = study_of({"1*8": {"none": [98.0, 99.0], "full": [98.0]}}, loops=None)
    rows = accuracy_table.rows(study)
    assert accuracy_table.caption_of(study, rows, "test") == (
        "Mean test accuracy of the best network with standard deviation over 1 to 2 trials for SimpleMLP."
    )


def test_without_data_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "trials.md").write_text("# Persistent Stochastic Ablation - SimpleMLP Results Summary\n")
    output = Output(tmp_path / "report")
    with pytest.raises(WrongInput, match="holds no results"):
        accuracy_table.analyse(None, accuracy_table.Options(trials_file=str(tmp_path / "trials.md")), output)
    assert not (tmp_path / "report").exists()


# --- LaTeX -----------------------------------------------------------------------------------------------


def texts() -> dict[str, str]:
    """Return both tables with everything that LaTeX might stumble over."""
    study = study_of(
        {
            "1*8": {mode: [91.0, 92.0] for mode in MODES},
            "[4*4,2*8]": {"none": [50.0]},
            **{f"{depth}*3": {mode: [float(depth)] for mode in MODES} for depth in range(1, 90)},
        }
    )
    rows = accuracy_table.rows(study)
    caption = "50 % of {all} & $everything_else$ #1 ~ \\ [see]"
    return {
        "architectures": architecture_table.to_latex(architecture_table.rows(architecture_table.Options())),
        "accuracies": accuracy_table.to_latex(rows, caption, "tab:x"),
    }


@pytest.mark.parametrize("name", ["architectures", "accuracies"])
def test_latex_is_balanced_and_escaped(name: str) -> None:
    text = texts()[name]
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == list(reversed(ended))
    assert not re.search(r"(?<!\\)%", text)


@pytest.mark.parametrize("name", ["architectures", "accuracies"])
def test_latex_compiles(name: str, tmp_path: Path) -> None:
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("pdflatex is not there (Debian: texlive-latex-recommended)")
    page = [
        r"\documentclass{article}",
        r"\usepackage{booktabs,longtable}",
        r"\usepackage[a3paper,margin=1cm]{geometry}",
    ]
    page += [r"\begin{document}", texts()[name], r"\end{document}"]
    (tmp_path / "page.tex").write_text("\n".join(page), encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
    assert "Overfull \\hbox" not in done.stdout
