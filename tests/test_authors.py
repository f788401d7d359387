"""``xfw new`` writes a plugin that keeps all rules, and one change to it fails one check of ``xfw check`` alone."""

from __future__ import annotations

import importlib
import itertools
import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from xfw.cli.main import invoke
from xfw.plugins.discovery import EXPERIMENTS
from xfw.store.rundir import list_runs
from xfw.testing.conformance import CHECKS, Outcome, Suite, run_checks

numbers = itertools.count()

EXPERIMENT, CONFIG, MODULE = "experiment.py", "config.py", "__init__.py"
RECORD = 'block.record("epoch", loss=metrics["loss"], correct=block.evaluate("test")["correct"])'
COUNTED = f"    SEEN.append(1)\n    {RECORD}\n\n\nSEEN = []".replace('["loss"]', '["loss"] * len(SEEN)')
KIND = '    kind: str = xfw.key("plain", converter={"plain": "plain"}.__getitem__, help="which images")\n'
RANDOM_TABLE = """
@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    import time

    def run(results, options, output):
        output.file("clock.txt", str(time.time_ns()).encode())

    return [xfw.Analyzer("clock", "tell the time", run)]
"""


def generated(folder: Path, *, package: str = "") -> str:
    """Write a new plugin into a folder and install it from there; return its name."""
    name = f"mutant_{next(numbers)}"
    assert invoke(["new", name, "--into", str(folder)]) == 0
    project = tomllib.loads((folder / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / name / "src" / f"{(package or project['name']).replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {package or project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(f"{metadata}Summary: {project['description']}\n", encoding="utf-8")
    lines = "".join(f"{name} = {module}\n" for name, module in project["entry-points"][EXPERIMENTS].items())
    (info / "entry_points.txt").write_text(f"[{EXPERIMENTS}]\n{lines}", encoding="utf-8")
    return name


def changed(folder: Path, name: str, file: str, old: str, new: str) -> None:
    """Replace a piece of one of the plugin's files, or append to it where ``old`` is empty."""
    path = folder / name / "src" / f"xfw_{name}" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a generated plugin importable, for this test."""
    importlib.import_module("torch")

    def made(name: str) -> None:
        monkeypatch.syspath_prepend(str(tmp_path / name / "src"))

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return made


def outcomes(name: str, folder: Path) -> list[Outcome]:
    return list(run_checks(Suite(name, folder, ["epochs=2"])))


def states(found: list[Outcome], state: str) -> dict[str, str]:
    return {outcome.name: outcome.reason for outcome in found if outcome.state == state}


def test_a_new_plugin_keeps_every_rule(tmp_path: Path, install: Callable[[str], None]) -> None:
    name = generated(tmp_path)
    install(name)
    assert states(outcomes(name, tmp_path / "suite"), "failed") == {}


@pytest.mark.parametrize(
    ("check", "file", "old", "new", "reason"),
    [
        ("light", MODULE, "import xfw\n", "import h5py\nimport xfw\n", "imports h5py"),
        ("light", CONFIG, "import xfw\n", "import time\nimport xfw\n\ntime.sleep(1.2)\n", "takes 1.2 s"),
        ("hooks", EXPERIMENT, "def on_epoch_end", "def on_epoch_ende", "did you mean 'on_epoch_end'?"),
        ("defaults", CONFIG, 'help="images of one step"', 'help=""', "$.batch_size has no help"),
        ("presets", CONFIG, '"paper": xfw.Preset({"width"', '"paper": xfw.Preset({"widht"', "unknown key 'widht'"),
        ("round-trip", CONFIG, 'ge=1, help="size', 'converter=lambda w: w + 1, help="size', "$.width is another value"),
        ("wrong-keys", CONFIG, "    lr: float", f"{KIND}    lr: float", "raises KeyError"),
        (
            "smoke",
            EXPERIMENT,
            "    images, labels = batch\n    return func",
            "    1 / 0\n    return func",
            "ZeroDivisionError: division by zero (experiment.py:",
        ),
        (
            "records",
            MODULE,
            "variables, first=1),)",
            'variables, first=1), xfw.Stream("day", "day", variables))',
            "stream 'day' is declared, and nothing was recorded in it",
        ),
        (
            "repeat",
            EXPERIMENT,
            'loss=metrics["loss"]',
            'loss=metrics["loss"] + np.random.random()',
            "metrics/epoch/loss",
        ),
        (
            "seed",
            EXPERIMENT,
            "    return nn.Sequential(",
            "    torch.manual_seed(0)\n    return nn.Sequential(",
            "another seed has the same numbers",
        ),
        ("neighbours", EXPERIMENT, 'loss=metrics["loss"]', 'loss=metrics["loss"] * block.size', "epoch/loss"),
        (
            "resume",
            EXPERIMENT,
            f"    {RECORD}",
            COUNTED,
            "metrics/epoch/loss",
        ),
        (
            "inside",
            EXPERIMENT,
            f"    {RECORD}",
            f"    {RECORD}\n    open('notes.txt', 'w').close()",
            "notes.txt was written outside the run directory",
        ),
        ("analysis", EXPERIMENT, "", RANDOM_TABLE, "another clock.txt"),
        ("targets", "targets.toml", 'metric = "accuracy"', 'metric = "acuracy"', "acuracy"),
    ],
)
def test_one_wrong_line_fails_one_check_alone(
    tmp_path: Path, install: Callable[[str], None], check: str, file: str, old: str, new: str, reason: str
) -> None:
    name = generated(tmp_path)
    changed(tmp_path, name, file, old, new)
    if check == "seed":
        changed(tmp_path, name, EXPERIMENT, "batch_size=config.batch_size)", 'config.batch_size, order="sequential")')
    install(name)
    failed = states(outcomes(name, tmp_path / "suite"), "failed")
    assert list(failed) == [check], failed
    assert reason in failed[check]
    assert "\n" not in failed[check]


def test_a_package_of_another_name_fails_the_first_check(tmp_path: Path, install: Callable[[str], None]) -> None:
    name = generated(tmp_path, package="something-else")
    install(name)
    found = outcomes(name, tmp_path / "suite")
    assert states(found, "failed") == {
        "installed": f"the distribution is called 'something-else', expected 'xfw-{name.replace('_', '-')}'"
    }
    assert states(found, "ok") == {}


def test_texts_and_missing_values_are_compared_by_content(tmp_path: Path, install: Callable[[str], None]) -> None:
    name = generated(tmp_path)
    further = 'xfw.Variable("word", "text", "a word"), xfw.Variable("none", "float64", "nothing"),'
    changed(tmp_path, name, MODULE, ")\n    return", f"    {further}\n    )\n    return")
    words = "word=['same'] * block.size, none=[float('nan')] * block.size, loss="
    changed(tmp_path, name, EXPERIMENT, 'loss=metrics["loss"]', f'{words}metrics["loss"]')
    install(name)
    suite = Suite(name, tmp_path / "suite", ["epochs=2"])
    for check in CHECKS:
        if check.name in ("repeat", "neighbours", "resume"):
            check.examine(suite)


def test_every_check_has_a_plugin_that_fails_it() -> None:
    marks = test_one_wrong_line_fails_one_check_alone.pytestmark
    assert {case[0] for case in marks[0].args[1]} | {"installed"} == {check.name for check in CHECKS}


def test_check_prints_each_check_and_fails_with_the_first(
    tmp_path: Path, install: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    name = generated(tmp_path)
    changed(tmp_path, name, EXPERIMENT, "def on_epoch_end", "def on_epoch_ende")
    install(name)
    capsys.readouterr()
    assert invoke(["check", name, "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [each["name"] for each in checks] == [check.name for check in CHECKS]
    assert invoke(["check", name]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("failed  hooks ")
    assert lines[3].endswith(": needs 'hooks'")
    assert lines[-1] == f"{name}: 2 of {len(CHECKS)} checks passed"


@pytest.mark.parametrize("folder", ["a_first_paper", "second"])
def test_a_new_plugin_trains_from_the_command_line(
    tmp_path: Path, install: Callable[[str], None], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = generated(tmp_path)
    install(name)
    monkeypatch.chdir(tmp_path)
    assert invoke(["run", name, "-s", "epochs=1", "--jobs", "0", "--device", "cpu", "--quiet"]) == 0
    assert [run.manifest.experiment for run in list_runs(tmp_path / "results")] == [name]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Paper", "'Paper' is no name for a plugin"),
        ("2nd", "'2nd' is no name for a plugin"),
        ("paper_", "'paper_' is no name for a plugin"),
        ("a--paper", "'a__paper' is no name for a plugin"),
        ("psa", "there is a plugin 'psa' already, the experiment of xfw-psa"),
        ("taken", "File exists"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, part: str
) -> None:
    (tmp_path / "taken").mkdir()
    assert invoke(["new", name, "--into", str(tmp_path)]) == 2
    assert part in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_dash_in_a_name_becomes_an_underscore(tmp_path: Path) -> None:
    assert invoke(["new", "my-paper", "--into", str(tmp_path)]) == 0
    text = (tmp_path / "my_paper" / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    assert project["name"] == "xfw-my-paper"
    assert project["entry-points"][EXPERIMENTS] == {"my_paper": "xfw_my_paper"}
    written = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "my_paper").rglob("*.*") if path.is_file()
    )
    assert "newcomer" not in written.lower()
    assert "comer" not in written


def test_an_unknown_experiment_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "psaa"]) == 2
    assert "did you mean 'psa'?" in capsys.readouterr().err


def test_a_name_that_holds_the_placeholder_stays_as_it_is(tmp_path: Path) -> None:
    assert invoke(["new", "newcomers", "--into", str(tmp_path)]) == 0
    assert (tmp_path / "newcomers" / "src" / "xfw_newcomers" / "config.py").is_file()
    project = tomllib.loads((tmp_path / "newcomers" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "xfw-newcomers"
    assert project["entry-points"][EXPERIMENTS] == {"newcomers": "xfw_newcomers"}


def test_a_training_that_does_not_end_is_killed(tmp_path: Path, install: Callable[[str], None]) -> None:
    name = generated(tmp_path)
    changed(tmp_path, name, EXPERIMENT, f"    {RECORD}", f"    __import__('time').sleep(600)\n    {RECORD}")
    install(name)
    found = list(run_checks(Suite(name, tmp_path / "suite", ["epochs=2"], longest=1.0)))
    assert states(found, "failed") == {"smoke": "it takes more than 1 s: shorten it with -s KEY=VALUE"}


def test_a_refusal_of_the_plugin_itself_is_a_refusal(tmp_path: Path, install: Callable[[str], None]) -> None:
    name = generated(tmp_path)
    kind = KIND.replace('{"plain": "plain"}.__getitem__', "lambda kind: kind")
    changed(tmp_path, name, CONFIG, "    lr: float", f"{kind}    lr: float")
    refusal = "@xfw.hookimpl\ndef check_config(config: Config) -> list[xfw.Problem]:\n    if config.kind != 'plain':\n"
    changed(tmp_path, name, MODULE, "", f"\n\n{refusal}        raise xfw.UserError('no')\n    return []\n")
    install(name)
    next(check for check in CHECKS if check.name == "wrong-keys").examine(Suite(name, tmp_path / "suite"))


def test_an_extension_is_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "wandb"]) == 2
    assert "'wandb' is an extension, and the checks are about experiments" in capsys.readouterr().err
