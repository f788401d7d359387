"""Kills at random moments of a run's whole life, and what is left when it has been resumed to its end.

The test runs this file as a program with 30 kills. Any number on request, in parallel:

    python tests/test_kills.py --kills 1000 --workers 16 --json docs/kills.json --page docs/reliability.md

Every round plans a run of ``xfw.testing.small``, kills whatever works on it again and again (the supervisor, blocks,
both, the server that forks blocks; also SIGTERM, SIGINT and SIGHUP) while it starts, trains, commits, seals, resumes,
merges or analyzes, reads every file after each kill, and resumes until the run is done. Then its numbers must be those
of a run that nobody disturbed. In one round of four the processes are those of the real command; in the others they are
forks of this one, which has torch loaded and kills ten times faster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

KILLS = int(os.environ.get("XFW_KILLS", "30"))
SWEEP = ["small", "-s", "lr=0.01,0.003", "-s", "pause=0.02", "--trials", "2", "--block-size", "2", "--device", "cpu"]
PATIENCE = 120.0
"""Seconds after which a process that was asked to stop, or left alone, counts as hanging."""

SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGHUP": signal.SIGHUP}
STOPPED = {128 + number for number in SIGNALS.values()}


def test_killed_runs_end_as_if_nobody_had_disturbed_them(tmp_path):
    report = tmp_path / "kills.json"
    line = [sys.executable, __file__, "--kills", str(KILLS), "--json", str(report)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["kills"] >= KILLS
    assert found["rounds"] > 0
    assert [found[name] for name in WRONG] == [0] * len(WRONG)


def test_the_page_shows_the_figures_of_the_last_full_run():
    docs = Path(__file__).parents[1] / "docs"
    page, figures = (docs / "reliability.md").read_text("utf-8"), json.loads((docs / "kills.json").read_text())
    assert shown(figures) in page


WRONG = ("unreadable files", "tracebacks", "wrong acceptances", "hanging", "unexpected exit codes")


class Worker:
    """One process that kills others, with a folder of its own."""

    def __init__(self, folder: Path, seed: int, real: float) -> None:
        self.folder, self.chance, self.real = folder, random.Random(seed), real
        self.counts: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.notes: list[str] = []
        self.kills = self.rounds = 0
        self.log = folder / "output.txt"

    def prepare(self) -> None:
        """Install the experiment, load what blocks need, and make the run that the others are compared with."""
        from xfw.testing.runs import metrics_of
        from xfw.testing.small import install

        site = self.folder / "site"
        site.mkdir()
        os.environ["PYTHONPATH"] = os.pathsep.join([str(install(site)), *filter(None, [os.environ.get("PYTHONPATH")])])
        sys.path.insert(0, str(site))
        os.environ["OMP_NUM_THREADS"] = "1"
        for module in (
            "torch._dynamo",
            "xfw.engine.session",
            "xfw.store.seal",
            "xfw.store.merge",
        ):
            __import__(module)
        assert self.finish(["run", *SWEEP, "--seed", "1", "--jobs", "0", *self.at("reference")]) == 0
        assert self.finish(["run", *SWEEP, "--seed", "2", "--jobs", "0", *self.at("reference")]) == 0
        first, second = self.runs("reference")
        self.expected, self.other = metrics_of(first), second.path
        self.merged = self.merge_of("reference")
        self.table = self.table_of("reference", first.id)
        os.environ["XFW_COMMIT_SECONDS"] = "0"

    def at(self, name: str) -> list[str]:
        return ["--results-dir", str(self.folder / name), "--quiet"]

    def runs(self, name: str) -> list:
        from xfw.store.rundir import list_runs

        return list_runs(self.folder / name)

    # --- processes -------------------------------------------------------------------------------------------

    def start(self, arguments: list[str], *, real: bool) -> int:
        """Start a command in a session of its own and return its process id."""
        with self.log.open("ab") as output:
            if real:
                line = [sys.executable, "-m", "xfw.cli.main", *arguments]
                return subprocess.Popen(
                    line, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
                ).pid
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS.values())  # until the child can answer them
            pid = os.fork()
            if pid:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS.values())
            else:
                os.setsid()
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                code = 70
                try:
                    code = forked(arguments)
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            return pid

    def wait(self, pid: int, seconds: float) -> int | None:
        """Return the exit code of a child, or None where it still runs."""
        deadline = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)

    def finish(self, arguments: list[str], *, real: bool = False) -> int:
        """Run a command that nobody disturbs."""
        pid = self.start(arguments, real=real)
        code = self.wait(pid, PATIENCE)
        if code is None:
            os.killpg(pid, signal.SIGKILL)
            self.wait(pid, PATIENCE)
            self.blame("hanging", " ".join(arguments))
            return 1
        return code

    def disturb(self, arguments: list[str], moment: str, reached: Callable[[], bool], *, real: bool) -> int | None:
        """Start a command, kill a part of it at a moment, and return its exit code."""
        pid = self.start(arguments, real=real)
        deadline = time.monotonic() + PATIENCE
        code = None
        while code is None and not reached() and time.monotonic() < deadline:
            code = self.wait(pid, 0.003)
        if code is None:
            code = self.wait(pid, self.chance.choice([0.0, 0.01, 0.05, 0.2]) * self.chance.random())
        while code is None and not listens(pid) and time.monotonic() < deadline:
            code = self.wait(pid, 0.003)  # before that, Python's own start answers Ctrl-C with a traceback
        if code is None:
            kind, victims = self.victims(pid, real=real)
            for victim, number in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, number)
            self.kills += 1
            self.counts[f"moment: {moment}"] += 1
            self.counts[f"kind: {kind}"] += 1
            code = self.wait(pid, PATIENCE)
        if code is None:
            self.blame("hanging", " ".join(arguments))
            os.killpg(pid, signal.SIGKILL)
            return self.wait(pid, PATIENCE)
        if code not in {0, -signal.SIGKILL, *STOPPED, *(-number for number in SIGNALS.values())}:
            self.blame("unexpected exit codes", f"{code} from {' '.join(arguments)}")
        return code

    def victims(self, pid: int, *, real: bool) -> tuple[str, list[tuple[int, int]]]:
        """Choose what is killed, among what is there."""
        choices: dict[str, list[tuple[int, int]]] = {"SIGKILL of the command": [(pid, signal.SIGKILL)]}
        choices |= {f"{name} to the command": [(pid, number)] for name, number in SIGNALS.items()}
        servers = children(pid) if real else []
        blocks = [block for server in servers for block in children(server)]
        if servers:
            choices["SIGKILL of the server"] = [(server, signal.SIGKILL) for server in servers]
        if blocks:
            one = self.chance.choice(blocks)
            choices["SIGKILL of a block"] = [(one, signal.SIGKILL)]
            choices["SIGTERM to a block"] = [(one, signal.SIGTERM)]
            both = [pid, *blocks]
            self.chance.shuffle(both)
            choices["SIGKILL of command and blocks"] = [(victim, signal.SIGKILL) for victim in both]
        weights = [3 if kind.startswith("SIGKILL") else 1 for kind in choices]
        kind = self.chance.choices(list(choices), weights)[0]
        return kind, choices[kind]

    # --- one round -------------------------------------------------------------------------------------------

    def round(self) -> None:
        """Take one run from its start to merged and analyzed, with kills all the way."""
        from xfw.testing.runs import metrics_of

        name, real = f"round-{self.rounds}", self.chance.random() < self.real
        self.log = self.folder / f"{name}.txt"
        jobs = ["--jobs", "2" if real else "0"]
        while not self.runs(name):
            self.disturb(["run", *SWEEP, "--seed", "1", *jobs, *self.at(name)], *self.moment(name), real=real)
            self.check(name)
        (run,) = self.runs(name)
        resume = ["resume", run.id, *jobs, *self.at(name)]
        for _ in range(self.chance.randrange(1, 6)):
            if self.disturb(resume, *self.moment(name), real=real) == 0:
                break
            time.sleep(self.chance.choice([0.0, 0.0, 0.2, 1.0]) * self.chance.random())
            self.check(name)
        code = self.finish(resume, real=real)
        if code != 0:
            self.blame("unexpected exit codes", f"{code} from the last resume of {run.path}")
        elif metrics_of(run) != self.expected:
            self.blame("wrong acceptances", f"the numbers of {run.path}")
        self.check(name)
        if code == 0 and self.chance.random() < 0.5:
            self.analyze_and_merge(name, run.id)
        self.blame_tracebacks(name)
        self.rounds += 1
        if not self.notes:
            shutil.rmtree(self.folder / name)

    def analyze_and_merge(self, name: str, run: str) -> None:
        """Kill an analysis and a merge, then let them end."""
        place = self.folder / name
        self.disturb(
            ["analyze", run, "summary", "--format", "csv", *self.at(name)[:2]], *self.soon("analyzing"), real=False
        )
        if self.table_of(name, run) != self.table:
            self.blame("wrong acceptances", f"the table of {run}")
        shutil.copytree(self.other, place / "small" / self.other.name)
        before = {path.id for path in self.runs(name)}
        self.disturb(["merge", run, self.other.name, *self.at(name)[:2]], *self.soon("merging"), real=False)
        self.check(name)
        for left in [found for found in self.runs(name) if found.id not in before]:
            shutil.rmtree(left.path)
        if self.merge_of(name) != self.merged:
            self.blame("wrong acceptances", f"the merge with {run}")
        self.check(name)

    def table_of(self, name: str, run: str) -> list[str]:
        """Return the lines of a run's summary that a resume repeats."""
        assert self.finish(["analyze", run, "summary", "--format", "csv", *self.at(name)[:2]]) == 0
        (found,) = [r for r in self.runs(name) if r.id == run]
        lines = (found.report_dir / "summary.csv").read_text().splitlines()
        return [line for line in lines if "wall_time" not in line]

    def merge_of(self, name: str) -> dict:
        """Merge the runs of a place, and return the numbers."""
        from xfw.testing.runs import metrics_of

        before = self.runs(name)
        if self.finish(["merge", *(run.id for run in before), *self.at(name)[:2]]) != 0:
            self.blame("unexpected exit codes", f"merge in {self.folder / name}")
            return {}
        (made,) = [run for run in self.runs(name) if run.manifest.merged]
        return metrics_of(made)

    def moment(self, name: str) -> tuple[str, Callable[[], bool]]:
        """Choose when to kill: a name, and a test that says when it is reached."""
        place = self.folder / name

        def committed() -> int:
            return len([*place.glob("small/*/blocks/*/segments/*.h5")])

        def ended() -> int:
            return len([*place.glob("small/*/blocks/*/end-*.toml")])

        segments, ends = committed(), ended()
        return self.chance.choice(
            [
                self.soon("starting"),
                ("claiming", lambda: any(place.glob("small/*/supervisor-*.toml"))),
                ("training", lambda: any(place.glob("small/*/blocks/*/progress.json"))),
                ("committing", lambda: committed() > segments + self.chance.randrange(30)),
                ("committing", lambda: any(place.glob("small/*/blocks/*/**/*.tmp"))),
                ("between blocks", lambda: ended() > ends),
                ("sealing", lambda: any(place.glob("small/*/run.h5*.tmp"))),
                ("sealing", lambda: ended() > ends + 1),
            ]
        )

    def soon(self, moment: str) -> tuple[str, Callable[[], bool]]:
        """Return a random moment of the first seconds."""
        at = time.monotonic() + self.chance.choice([0.1, 0.5, 2.0]) * self.chance.random()
        return moment, lambda: time.monotonic() >= at

    # --- what is left ----------------------------------------------------------------------------------------

    def check(self, name: str) -> None:
        """Read everything that has its final name."""
        from xfw.errors import UserError
        from xfw.store import proof, segments
        from xfw.store.commit import load_state
        from xfw.store.results import open_run

        for run in self.runs(name):
            try:
                assert len(run.block_states()) == len(run.manifest.blocks)
                for block in run.manifest.blocks if not run.manifest.merged else ():
                    restored = load_state(run.block_dir(block.index))
                    if restored is not None:
                        records = segments.read_all(run.block_dir(block.index), restored.segments)
                        assert segments.row_counts(records) == dict(restored.rows)
                if run.run_file.exists():
                    proof.check(run.run_file)
                    with open_run(run) as results:
                        assert len(results.status) == len(run.manifest.members())
            except (UserError, AssertionError) as error:
                if "is out of date: blocks of the run have gone on" in str(error):
                    continue  # it is whole, and says so itself
                self.blame("unreadable files", f"{run.path}: {error}")

    def blame_tracebacks(self, name: str) -> None:
        """Look for tracebacks in everything that was printed or logged."""
        for path in [self.log, *(self.folder / name).rglob("*.txt")]:
            text = path.read_text("utf-8", "replace")
            for _ in range(text.count("Traceback (most recent call last)")):
                self.blame("tracebacks", f"{path}: {text[text.index('Traceback') :][-1500:]}")

    def blame(self, what: str, note: str) -> None:
        self.wrong[what] += 1
        self.notes.append(f"{what}: {note}")


def forked(arguments: list[str]) -> int:
    """Be the command line, in a process that has everything loaded."""
    from xfw.cli import main

    def before(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in SIGNALS.values():
        signal.signal(number, before)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS.values())
        return main.obey(arguments)[0]
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        return 130


def listens(pid: int) -> bool:
    """Say whether a process has set its own handler of SIGTERM."""
    with contextlib.suppress(OSError):  # it may have ended
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return True


def children(pid: int) -> list[int]:
    """Return the ids of a process's children (not every kernel lists them)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):  # it may end while it is read
            if int(path.read_text("ascii", "replace").rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def work(kills: int, seed: int, real: float, folder: Path) -> dict:
    """Kill so many processes, and say what was found."""
    worker = Worker(folder, seed, real)
    worker.prepare()
    while worker.kills < kills and not worker.notes:
        worker.round()
    return {
        "kills": worker.kills,
        "rounds": worker.rounds,
        **{what: worker.wrong[what] for what in WRONG},
        "counts": dict(worker.counts),
        "notes": worker.notes,
    }


def shown(figures: dict) -> str:
    """Return the figures of a run as a part of the page."""
    kinds = [
        f"{count} {name.partition(': ')[2]}" for name, count in figures["counts"].items() if name.startswith("kind")
    ]
    moments = [f"{count} {name.partition(': ')[2]}" for name, count in figures["counts"].items() if name[0] == "m"]
    wrong = ", ".join(f"{figures[name]} {name}" for name in WRONG)
    return (
        f"{BEGIN}\n{figures['kills']:,} kills in {figures['rounds']:,} rounds (seed {figures['seed']}, "
        f"{figures['workers']} at once, {figures['seconds']:,} s, torch {figures['torch']}): **{wrong}**.\n\n"
        f"What was killed: {', '.join(kinds)}. While it was: {', '.join(moments)}.\n{END}"
    )


BEGIN, END = "<!-- kills -->", "<!-- /kills -->"


def show(page: Path, figures: dict) -> None:
    """Put the figures into the page."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + shown(figures) + rest.partition(END)[2], "utf-8")


@contextlib.contextmanager
def folders() -> Iterator[Path]:
    """Give a folder that is removed unless something was found in it."""
    folder = Path(tempfile.mkdtemp(prefix="xfw-kills-"))
    yield folder
    if not (folder / "kept").exists():
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Read the command line, let workers work, and print and write the sum."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments and look at what is left.")
    parser.add_argument("--kills", type=int, default=KILLS, help="how many processes are killed, at least")
    parser.add_argument("--workers", type=int, default=1, help="processes that kill side by side")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments; drawn where it is 0")
    parser.add_argument("--real", type=float, default=0.25, help="share of rounds with the real command")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--page", type=Path, help="page that shows the figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        found = work(given.kills, given.seed, given.real, given.folder)
        given.json.write_text(json.dumps(found))
        return 0
    seed = given.seed or random.SystemRandom().randrange(1, 2**31)
    began = time.monotonic()
    with folders() as folder:
        share = -(-given.kills // given.workers)
        processes = []
        for number in range(given.workers):
            place = folder / str(number)
            place.mkdir()
            line = [
                sys.executable,
                __file__,
                "--kills",
                str(share),
                "--seed",
                str(seed + number),
                "--real",
                str(given.real),
            ]
            line += ["--folder", str(place), "--json", str(folder / f"{number}.json")]
            processes.append(subprocess.Popen(line))
        codes = [process.wait() for process in processes]
        parts = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        if any(part["notes"] for part in parts) or any(codes):
            (folder / "kept").touch()
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part["counts"])
    total = {name: sum(part[name] for part in parts) for name in ("kills", "rounds", *WRONG)}
    import torch

    figures = {**total, "seconds": round(time.monotonic() - began), "workers": given.workers, "seed": seed}
    figures |= {"python": platform.python_version(), "torch": torch.__version__, "counts": dict(sorted(counts.items()))}
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    if given.page:
        show(given.page, figures)
    print(json.dumps(figures, indent=2))
    for note in [note for part in parts for note in part["notes"]]:
        print(note, file=sys.stderr)
    return int(any(codes) or any(total[name] for name in WRONG))


if __name__ == "__main__":
    sys.exit(main())
