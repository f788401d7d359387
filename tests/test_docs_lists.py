"""The lists in the documentation are those of the code, in both directions.

Hooks, public names, command-line options, exit codes, environment variables, keys, stored names: what the code has
and no page names, and what a page names and the code does not have, both fail.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
import h5py
import pytest
import xfw
from xfw import errors
from xfw.analysis import curves, shared
from xfw.analysis.output import FORMATS, Output
from xfw.cli import main, run
from xfw.cli.subject import shipped_runs
from xfw.config import named
from xfw.config.keys import key, schema_of
from xfw.engine.block import Block
from xfw.engine.rng import Rng
from xfw.engine.strategy import STRATEGIES
from xfw.manifest import BlockPlan, Condition, Execution, Manifest, Source
from xfw.plugins.contract import check_hooks, specifications
from xfw.plugins.discovery import discover, find
from xfw.plugins.registry import load_experiment
from xfw.process import block as block_process
from xfw.process.progress import FILE as PROGRESS
from xfw.process.progress import LOG
from xfw.process.stop import SIGNALS
from xfw.store import claims
from xfw.store.results import Results
from xfw.store.rundir import RunDir, find_run
from xfw.store.sources import TrialSource

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
CORE = REPOSITORY / "framework" / "xfw"
CODE = re.compile(r"`([^`]+)`")


def page(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return what stands below a heading, up to the next heading of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(title)}$\n(.*)", text, re.MULTILINE | re.DOTALL)
    assert match, f"no section '{title}'"
    level = len(match[1])
    return re.split(rf"^#{{1,{level}}} ", match[2], maxsplit=1, flags=re.MULTILINE)[0]


def prose(text: str) -> str:
    """Return a text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def codes(text: str) -> list[str]:
    """Return what stands in code type, in order."""
    return CODE.findall(prose(text))


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in a text, without their heads."""
    found = []
    for line in prose(text).splitlines():
        if line.startswith("|"):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    heads = {number - 1 for number, cells in enumerate(found) if set("".join(cells)) <= set("-: ")}
    return [cells for number, cells in enumerate(found) if number not in heads and number - 1 not in heads]


def first_names(text: str) -> set[str]:
    """Return the names in code type in the first cells of the tables in a text, calls without their arguments."""
    return {name.partition("(")[0] for cells in rows(text) for name in CODE.findall(cells[0])}


# --- plugins ---------------------------------------------------------------------------------------------


def hook_sections() -> dict[str, str]:
    parts = re.split(r"^### `(\w+)`$", page("docs/hooks.md"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_hook_has_its_section() -> None:
    assert list(hook_sections()) == list(specifications())


@pytest.mark.parametrize("name", specifications())
def test_a_hook_is_described_as_it_is(name: str) -> None:
    text, spec = hook_sections()[name], specifications()[name]
    kind = ("one, required" if spec.required else "one") if spec.one else "all"
    home = {"plugin": "the plugin's module"}.get(spec.home, f"`{spec.home}`")
    assert f"\nIn: {home}. Kind: {kind}. " in text
    arguments = re.search(r"Arguments: (.*?)\. Called: ", text)
    assert arguments
    assert CODE.findall(arguments[1]) == list(spec.arguments)
    assert {"Returns:", "Default:"} <= set(re.findall(r"\w+:", text))


@pytest.mark.parametrize("name", specifications())
def test_the_example_of_a_hook_is_one(name: str) -> None:
    found = re.search(r"^```python\n(.*?)^```", hook_sections()[name], re.MULTILINE | re.DOTALL)
    assert found, f"no example of {name}"
    module: Any = type(inspect)("example")
    exec(compile(found[1], name, "exec"), vars(module) | {"xfw": xfw}, vars(module))
    assert len(found[1].splitlines()) <= 6
    assert [
        problem for problem in check_hooks({"plugin": module}, "experiment") if "missing" not in problem.message
    ] == []
    assert hasattr(module, name)


def test_every_public_name_is_described() -> None:
    assert first_names(section(page("docs/plugin-reference.md"), "The public names")) == set(xfw.__all__)


def public(kind: type) -> set[str]:
    """Return the public attributes of a class, those of its instances included."""
    assigned = set(re.findall(r"self\.([a-z]\w*)(?=[^=\n(]*=(?!=))", inspect.getsource(kind)))
    return {name for name in {*vars(kind), *assigned} if not name.startswith("_")}


def test_everything_of_a_block_is_described() -> None:
    internal = {"trainer"}
    assert first_names(section(page("docs/plugin-reference.md"), "The block")) == public(Block) - internal


def test_every_draw_is_described() -> None:
    assert first_names(section(page("docs/plugin-reference.md"), "Random numbers")) == public(Rng)


def test_everything_of_results_is_described() -> None:
    text = section(page("docs/plugin-reference.md"), "What analysis code gets")
    assert first_names(text) == public(Results)
    named_in_text = {name.partition("(")[0] for name in codes(text)}
    stored = {field.name for field in attrs.fields(TrialSource) if not field.name.startswith("_")}
    assert stored | {"rows", "last", "weights"} <= named_in_text
    assert {"say", "table", "data", "figure", "file", "wants"} <= named_in_text & public(Output)


def test_every_argument_of_key_is_described() -> None:
    assert first_names(section(page("docs/plugins.md"), "The configuration")) == set(inspect.signature(key).parameters)


def test_what_is_there_for_tests_is_described() -> None:
    named_there = {name.rpartition(".")[2] for name in codes(section(page("docs/plugin-reference.md"), "For tests"))}
    for path in (CORE / "testing").glob("[a-z]*.py"):
        if path.stem in ("small", "shapes"):  # whole experiments: their names are those of hooks
            assert path.stem in named_there
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
        listed = [
            node.value for node in body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets)
        ]
        assert set(ast.literal_eval(listed[0])) <= named_there, path.name


# --- the command line ------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main.cli)
    for part in main.COMMANDS.values():
        for name in part:
            command = main.cli.get_command(context, name)
            assert command is not None
            below = command.commands if isinstance(command, click.Group) else {"": command}
            for child, each in below.items():
                yield f"{name} {child}".strip(), each


def test_every_option_is_listed() -> None:
    documented = {
        (command, option)
        for cells in rows(section(page("docs/using.md"), "All options"))
        for option in CODE.findall(cells[0])
        for command in CODE.findall(cells[1])
    }
    existing = {
        (name, option)
        for name, command in commands()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert documented == existing


def test_options_named_anywhere_exist() -> None:
    existing = {option for _, command in commands() for parameter in command.params for option in parameter.opts}
    existing |= {"--help", "--version", "--debug"}
    scripts = "".join(path.read_text("utf-8") for path in (REPOSITORY / "benchmarks").glob("*.py"))
    of_benchmarks = set(re.findall(r'add_argument\("(--[a-z-]+)"', scripts))
    for name in ("README.md", *(str(path.relative_to(REPOSITORY)) for path in DOCS.glob("*.md"))):
        for code in codes(page(name)):
            known = existing | (of_benchmarks if "benchmarks/" in code else set())
            assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code)) <= known, (name, code)


def test_every_command_is_in_the_readme() -> None:
    listed = {name.removeprefix("xfw ") for name in first_names(section(page("README.md"), "Commands"))}
    assert listed == {name for part in main.COMMANDS.values() for name in part}


def test_exit_codes() -> None:
    text = section(page("docs/using.md"), "Errors and exit codes")
    documented = {int(cells[0]) for cells in rows(text)}
    known = {0, errors.UserError.exit_code, errors.WrongInput.exit_code, *(128 + number for number in SIGNALS)}
    assert documented == known
    process = section(page("docs/architecture.md"), "Exit codes of a block")
    assert {int(cells[0]) for cells in rows(process)} == set(block_process.CODES.values())


def test_strategies_and_states() -> None:
    text = page("docs/using.md")
    assert first_names(section(text, "Devices and strategies")) == set(STRATEGIES)
    assert set(run.STRATEGIES) <= set(codes(section(text, "All options")))
    states = {claims.DONE, claims.FAILED, claims.REFUSED, claims.INTERRUPTED}
    states |= {claims.PENDING, claims.RUNNING, claims.LOST, "diverged"}
    assert first_names(section(text, "The results directory")) == states


def test_environment_variables() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in CORE.rglob("*.py"))
    assert first_names(section(page("docs/using.md"), "Environment variables")) == set(
        re.findall(r"\bXFW_[A-Z_]+\b", sources)
    )


def test_keys_of_a_named_run() -> None:
    text = section(page("docs/using.md"), "Named runs")
    assert first_names(text) == set(named.ENTRIES)


def test_a_shown_experiments_file_can_be_read(tmp_path: Path) -> None:
    shown = re.search(r"^```toml\n(.*?)^```", page("docs/using.md"), re.MULTILINE | re.DOTALL)
    assert shown
    (tmp_path / named.FILE).write_text(shown[1], encoding="utf-8")
    assert list(named.load_named_runs(tmp_path, ["psa"])) == ["small-lr"]


def test_options_and_formats_of_the_shared_analyzers() -> None:
    text = section(page("docs/using.md"), "Tables and figures")
    documented, current = set(), ""
    for cells in rows(text):
        current = CODE.findall(cells[0])[0] if CODE.findall(cells[0]) else current
        documented |= {(current, option) for option in CODE.findall(cells[1])}
    classes = {"summary": shared.Summarise, "curves": curves.Options, "compare": shared.Compare}
    assert documented == {(name, field.name) for name, kind in classes.items() for field in attrs.fields(kind)}
    listed = re.search(r"^Formats for `--format`: (.*?)\. ", text, re.MULTILINE)
    assert listed
    assert CODE.findall(listed[1]) == list(FORMATS)


# --- files -----------------------------------------------------------------------------------------------


def fields(kind: type) -> set[str]:
    return {field.name for field in attrs.fields(kind)}


def test_keys_of_run_toml() -> None:
    text = section(page("docs/file-format.md"), "run.toml")
    assert first_names(text) == fields(Manifest)
    described = {cells[0]: set(CODE.findall(cells[1])) for cells in rows(text)}
    for name, kind in (("blocks", BlockPlan), ("conditions", Condition), ("execution", Execution), ("source", Source)):
        assert described[f"`{name}`"] == fields(kind), name


def test_files_of_a_block() -> None:
    text = section(page("docs/file-format.md"), "A block's directory")
    described = {cells[0]: set(CODE.findall(cells[1])) for cells in rows(text)}
    assert described["`claim-N.toml`"] == fields(claims.Claim)
    assert described["`end-N.toml`"] == fields(claims.End)


def trained(results_dir: Path, *arguments: str) -> RunDir:
    """Return a really sealed run of psa: one loop of tiny networks."""
    tiny = ["-s", "meta_loops=1", "--seed", "1", "--jobs", "0", "--device", "cpu", "--quiet"]
    assert main.invoke(["run", "psa", "--results-dir", str(results_dir), *tiny, *arguments]) == 0
    return find_run(results_dir, "@last")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    """Return a run with a sweep and unequal shapes, and one that keeps its weights."""
    folder = tmp_path_factory.mktemp("sealed")
    swept = trained(folder / "swept", "-s", "arch=1*3,1*2", "-s", "keep_weights=true")
    return {"swept": swept, "single": trained(folder / "single", "-s", "arch=1*2")}


TEMPLATES = {"metrics": "metrics/<stream>/", "ragged": "ragged/<position>/"}
"""How the page writes the groups whose names a run decides."""


def walked(run_dir: RunDir) -> dict[str, Mapping[str, Any]]:
    """Return the attribute names of every group and dataset, by path and kind (groups end in a slash)."""
    found: dict[str, Any] = {}
    with h5py.File(run_dir.run_file) as file:
        found["/"] = set(file.attrs)
        file.visititems(
            lambda name, item: found.update({name + ("/" if isinstance(item, h5py.Group) else ""): set(item.attrs)})
        )
    return found


def test_names_of_a_sealed_file(sealed: Mapping[str, RunDir]) -> None:
    text = section(page("docs/file-format.md"), "run.h5")
    trees = [walked(each) for each in sealed.values()]
    names = {name for tree in trees for name in tree}
    root = {name for name in names if "/" not in name}
    assert first_names(section(text, "Datasets of the root")) == root
    assert first_names(section(text, "Root attributes")) == trees[0]["/"]
    groups = {re.sub(r"^(metrics|ragged)/[^/]+/", lambda m: TEMPLATES[m[1]], name) for name in names if name[-1] == "/"}
    documented = {f"{name}/" for cells in rows(section(text, "Groups"))[:6] for name in CODE.findall(cells[0])}
    assert documented == {name for name in groups if name != "/" and "lkg" not in name}


def test_attributes_of_datasets(sealed: Mapping[str, RunDir]) -> None:
    text = section(page("docs/file-format.md"), "Attributes of datasets")
    library = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"}
    assert library <= set(codes(text))
    found = {
        attribute
        for each in sealed.values()
        for name, attributes in walked(each).items()
        if name[-1] != "/"
        for attribute in attributes
    }
    assert first_names(text) == found - library


def test_names_in_a_blocks_files(sealed: Mapping[str, RunDir]) -> None:
    text = section(page("docs/file-format.md"), "A block's directory")
    directory = sealed["single"].block_dir(0)
    content = {}
    for kind, path in (("segment", directory / "segments" / "00001-1.h5"), ("state", directory / "state-1.h5")):
        with h5py.File(path) as file:
            content[kind] = file["content"].asstr()[()]
            groups = {name for name in file if name != "content"}
        assert all(f"`{group}/" in text for group in groups), kind
    described = {cells[0]: CODE.findall(cells[1]) for cells in rows(text)}
    both = set(described["both"])
    assert set(described["state"]) == set(json.loads(content["state"])) - both
    segment = json.loads(content["segment"])
    assert set(described["segment"]) == {*segment, *next(iter(segment["streams"].values()))} - both


def test_files_of_a_run(sealed: Mapping[str, RunDir]) -> None:
    tree = page("docs/file-format.md").split("```")[1]
    documented = {
        re.sub(r"\d+(-\d+)?\.", "N.", name) for name in re.findall(r"[\w.-]+\.(?:toml|json|sha256|h5|txt)", tree)
    }
    files = {path.name for each in sealed.values() for path in each.path.rglob("*") if path.is_file()}
    assert documented == {re.sub(r"\d+(-\d+)?\.", "N.", name) for name in files} | {
        "traceback-N.txt",
        "supervisor-N.toml",
    }
    assert {PROGRESS, LOG} <= documented


# --- psa, and the rooms ----------------------------------------------------------------------------------


def test_keys_of_psa() -> None:
    schema = schema_of(load_experiment("psa").config_class)
    text = section(page("plugins/psa/README.md"), "Keys")
    table = {CODE.findall(cells[0])[0]: cells for cells in rows(text)}
    assert list(table) == list(schema.keys)
    assert {name for name, cells in table.items() if cells[2] == "×"} == {
        name for name, each in schema.keys.items() if each.info.per_trial
    }


def test_presets_and_metrics_of_psa() -> None:
    experiment = load_experiment("psa")
    text = page("plugins/psa/README.md")
    assert first_names(section(text, "Presets")) == set(experiment.presets())
    metrics = {CODE.findall(cells[0])[0] for cells in rows(section(text, "What a run stores"))[-5:]}
    assert metrics == {metric.name for metric in experiment.hooks.define_metrics()}


def test_analyzers_of_psa_and_their_options() -> None:
    text = section(page("plugins/psa/README.md"), "Tables and figures")
    documented: dict[str, set[str]] = {}
    current = ""
    for cells in rows(text):
        current = CODE.findall(cells[0])[0] if CODE.findall(cells[0]) else current
        documented.setdefault(current, set()).update(CODE.findall(cells[1]))
    analyzers = {each.name: each for each in load_experiment("psa").hooks.analyze()}
    assert list(documented) == list(analyzers)
    for name, each in analyzers.items():
        assert documented[name] == {field.name for field in attrs.fields(each.options)}, name


def test_named_runs_of_psa() -> None:
    names = first_names(section(page("plugins/psa/README.md"), "The whole study"))
    assert names | {"psa-check", "psa-subset"} == set(shipped_runs([find("psa", discover())]))


def test_what_psa_stores(sealed: Mapping[str, RunDir]) -> None:
    text = section(page("plugins/psa/README.md"), "What a run stores")
    variables, arrays = (table.split("\n\n")[0] for table in re.split(r"^\| `/\w+/.*$", text, flags=re.MULTILINE)[1:])
    names = set(walked(sealed["single"]))
    stream = {name.removeprefix("metrics/epoch/") for name in names if re.fullmatch(r"metrics/epoch/\w+", name)}
    assert {CODE.findall(cells[0])[0] for cells in rows(f"|a|\n{variables}")} == stream - {"count"}
    stored = {name.removeprefix("arrays/") for name in names if re.fullmatch(r"arrays/\w+", name)}
    assert {CODE.findall(cells[0])[0] for cells in rows(f"|a|\n{arrays}")} - {"lkg/<map>.weight"} == stored


def test_rooms() -> None:
    rooms = {path.stem for path in CORE.iterdir() if path.stem[0] != "_" and path.suffix in ("", ".py")}
    assert first_names(section(page("docs/architecture.md"), "The rooms")) == rooms
