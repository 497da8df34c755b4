"""``nco solve``."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nco.cli.app import INTERRUPTED, NOTHING, OK, code_of, describe, fail
from nco.cli.options import (
    Json,
    Metric,
    Problem,
    Quiet,
    Seed,
    TruncateBudget,
    Verbose,
    check_writable,
    complete_solver,
    read_config,
    sigterm_as_sigint,
    start_logging,
)

if TYPE_CHECKING:
    from nco.api import Limits
    from nco.cli.report import Progress, Row
    from nco.instances.core import Batch, Budget, Instance, Result, Solver

logger = logging.getLogger("nco")


def solve(
    files: Annotated[
        list[Path], typer.Argument(help="Instance files; problems may differ.", show_default=False)
    ],
    problem: Problem = "",
    metric: Metric = None,
    truncate_budget: TruncateBudget = False,
    solver: Annotated[
        str | None,
        typer.Option(
            "--solver",
            "-s",
            help="Registered solver, or name:key=value,key=value.",
            autocompletion=complete_solver,
            show_default="auto",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="KEY=VALUE", help="Parameter of the solver."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file: solver = NAME, the rest its parameters."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Named configuration, as balans-ijcai25.")
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option("--memory", help="JSON file that keeps what arms were worth."),
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Count nodes, not seconds: a seed repeats.")
    ] = False,
    stages: Annotated[
        int | None, typer.Option("--stages", help="Times that all parts are solved anew (udc).")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Solutions drawn; the best counts (udc, bq).")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", "-t", help="Seconds for each instance.")
    ] = 60.0,
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Limit on the solver's own iterations.")
    ] = None,
    target: Annotated[
        float | None, typer.Option("--target", help="Stop at an objective at least this good.")
    ] = None,
    gap: Annotated[
        float | None, typer.Option("--gap", help="Stop at a certified gap; 0.01 is 1 %.")
    ] = None,
    seed: Seed = 0,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", help="Instances at a time, or one's workers (balans); -1: all cores."
        ),
    ] = 1,
    backend: Annotated[
        str, typer.Option("--backend", help="Where jobs run: loky (here) or ray (cluster).")
    ] = "loky",
    device: Annotated[
        str, typer.Option("--device", help="Device of neural solvers: auto, cpu, cuda.")
    ] = "auto",
    start: Annotated[
        Path | None, typer.Option("--start", help="Solution file to start from.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Solution file; .json: the result; .jsonl: all results; else a folder.",
        ),
    ] = None,
    no_bound: Annotated[
        bool, typer.Option("--no-bound", help="Compute no dual bound besides the solver's.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Solve instances and print a table, or JSON lines.

    Every result is checked by the instance itself. Ctrl-C, or SIGTERM, gives the best so far.
    """
    from nco import api
    from nco.cli.report import Progress, print_table
    from nco.instances.core import Budget, InputError
    from nco.parallel import check_jobs

    start_logging(verbose, quiet)
    check_jobs(jobs, backend)
    written = {} if config is None else read_config(config)
    if solver is None:
        solver = str(written.get("solver", "auto"))
    name, params = api.parse_solver(solver)
    params = {k: v for k, v in written.items() if k != "solver"} | params
    params |= api.parse_params(param or ())
    flags = {
        "device": device if device != "auto" else None,
        "preset": preset,
        "memory": None if memory is None else str(memory),
        "deterministic": deterministic or None,
        "stages": stages,
        "samples": samples,
    }
    for option, value in flags.items():
        if value is None:
            continue
        if not _takes(name, option):
            what = f"solver {name} has no {option}"
            raise InputError(None, None, what, f"leave --{option} out")
        params[option] = value
    if jobs != 1 and len(files) == 1 and "jobs" not in params and _takes(name, "jobs"):
        # One instance: the jobs are the solver's own workers.
        params["jobs"] = jobs if jobs > 0 else os.cpu_count() or 1
        if backend != "loky":
            params["backend"] = backend
        jobs = 1
    if start is not None and len(files) > 1:
        raise InputError(None, None, "--start goes with one file", "solve the files one by one")
    session = Session(
        solver=api.make_solver(name, params),
        limits=api.Limits(time_limit, iterations, target, gap),
        budget=Budget(),
        seed=seed,
        jobs=jobs,
        backend=backend,
        start=start,
        bound=not no_bound,
        problem=problem,
        metric=metric,
        truncate_budget=truncate_budget,
        output=Output(out, files),
        json=json_,
    )
    # A live table and JSON lines would share the terminal.
    shown = sys.stderr.isatty() and not quiet and not (json_ and sys.stdout.isatty())
    with _catch_both(session.budget), Progress(shown, len(files)) as progress:
        code = session.run(files, progress)
    if session.rows and not json_ and not quiet:
        print_table(session.rows)
    return code


@contextlib.contextmanager
def _catch_both(budget: Budget) -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: finished work is kept when a queue's time is up."""
    with budget.catch_interrupt(), sigterm_as_sigint():
        yield


def _takes(name: str, option: str) -> bool:
    from nco.instances.registry import solvers

    return option in inspect.signature(solvers.load(name)).parameters


class Output:
    """Where solutions go: a file, a folder, or one file of JSON lines.

    Parameters
    ----------
    given
        As given, or None for nowhere; what ends with a slash is a folder.
    files
        The instance files, which are never written over.

    Raises
    ------
    InputError
        When one file is to hold many solutions, or the target cannot be written or is an
        instance file.
    """

    def __init__(self, given: str | None, files: Sequence[Path]):
        self.path: Path | None = None
        self.lines: list[str] = []
        self._written: set[str] = set()
        if given is None:
            return
        self.path = path = Path(given)
        from nco.instances import io

        self._files = {os.path.realpath(file) for file in files}
        self.folder = path.is_dir() or given.endswith(("/", os.sep))
        self.jsonl = not self.folder and io.suffix(path) == ".jsonl"
        if len(files) > 1:
            self.expect_batch()
        check_writable(path, self.folder)
        self._spare_files(path)

    def _spare_files(self, path: Path) -> None:
        from nco.instances.core import InputError

        if os.path.realpath(path) in self._files:
            raise InputError(path, None, "is the instance file", "write the solution elsewhere")

    def expect_batch(self) -> None:
        """Refuse a single solution file for a batch.

        Raises
        ------
        InputError
            When the target is a file that holds one solution.
        """
        from nco.instances.core import InputError

        if self.path is None or self.jsonl or self.folder:
            return
        if self.path.suffix:
            raise InputError(
                self.path, None, "one file cannot hold many solutions", "name a folder or a .jsonl"
            )
        self.folder = True
        check_writable(self.path, folder=True)

    def write(self, instance: Instance[Any], result: Result) -> None:
        """Write the solution of one instance.

        Raises
        ------
        InputError
            When the file cannot be written or is an instance file, or two instances have the
            same name.
        """
        from nco.instances import io
        from nco.instances.core import InputError

        if self.path is None:
            return
        if self.jsonl:
            self.lines.append(result.to_json())
            return
        path = self.path
        if self.folder:
            path = path / self._name(instance)
            if path.name in self._written:
                raise InputError(path, None, "two instances have this name", "use --out x.jsonl")
            self._written.add(path.name)
            self._spare_files(path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(path.parent, None, f"cannot be made: {error.strerror}") from None
        if io.suffix(path) == ".json":
            io.write_bytes(path, f"{result.to_json()}\n".encode())
        elif result.solution is not None:
            io.write_solution(instance, result.solution, path)

    def close(self) -> None:
        """Write the file of JSON lines, if that is the target and there are results.

        Raises
        ------
        InputError
            When it cannot be written.
        """
        from nco.instances import io

        if self.path is not None and self.jsonl and self.lines:
            io.write_bytes(self.path, "".join(line + "\n" for line in self.lines).encode())

    @staticmethod
    def _name(instance: Instance[Any]) -> str:
        from nco.instances.registry import formats

        stem = instance.name or instance.digest[:12]
        stem = stem.replace("[", "-").replace("]", "").replace("/", "_")
        stem = "".join(c if c.isprintable() else "_" for c in stem)
        for _, form in formats.loaded():
            if form.problem == instance.problem and form.write_solution is not None:
                return stem + form.solution_suffixes[0]
        return stem + ".json"


@dataclasses.dataclass
class Session:
    """One call of ``nco solve``: its settings, and what has come of it."""

    solver: Solver
    limits: Limits
    budget: Budget
    seed: int
    jobs: int
    backend: str
    start: Path | None
    bound: bool
    problem: str
    metric: str | None
    truncate_budget: bool
    output: Output
    json: bool
    code: int = OK
    rows: list[Row] = dataclasses.field(default_factory=list)
    _failed: dict[Path, int] = dataclasses.field(default_factory=dict)

    def run(self, files: Sequence[Path], progress: Progress) -> int:
        """Solve the files and return the highest exit code."""
        if self.jobs != 1 and hasattr(self.solver, "solve_batch"):
            logger.warning(
                "%s solves file after file, a batch in one call: --jobs changes nothing",
                self.solver.name,
            )
            self.jobs = 1
        try:
            if self.jobs == 1:
                for path in files:
                    self._one_file(path, progress)
            else:
                contents = [(path, self._read(path)) for path in files]
                self._many([(p, c) for p, c in contents if c is not None], progress)
        finally:
            self.output.close()
        for path, count in self._failed.items():
            if count > 1:
                fail(f"{path}: {count - 1} more instances failed")
        return self.code

    def _read(self, path: Path) -> Instance[Any] | Batch[Any] | None:
        from nco.instances import io
        from nco.instances.core import Batch, InputError

        try:
            content = io.read(path, self.problem, self.metric, self.truncate_budget)
            if isinstance(content, Batch):
                self.output.expect_batch()
                if self.start is not None:
                    raise InputError(path, None, "a batch takes no --start", "solve single files")
        except Exception as error:
            self._fail(path, error)
            return None
        return content

    def _one_file(self, path: Path, progress: Progress) -> None:
        from nco import api
        from nco.instances.core import Batch

        if self.budget.interrupted():
            self._code(INTERRUPTED)
            return
        # Reading counts towards the time limit.
        budget = self.limits.budget(self.budget)
        content = self._read(path)
        if content is None:
            return
        if isinstance(content, Batch):
            self._many([(path, content)], progress)
            return
        progress.start(content, self.solver.name)
        try:
            result = api.run(
                content,
                self.solver,
                budget,
                seed=self.seed,
                start=self.start,
                on_event=progress.on_event,
                bound=self.bound,
            )
        except Exception as error:
            logger.debug("this is where", exc_info=True)
            self._fail(path, error)
            return
        self._take(path, content, result, progress)
        self._row(content, [result])

    def _many(
        self, groups: Sequence[tuple[Path, Instance[Any] | Batch[Any]]], progress: Progress
    ) -> None:
        from nco.instances.core import Batch, Result, spawn_seed
        from nco.parallel import run_many

        owners: list[Path] = []
        instances: list[Instance[Any]] = []
        seeds: list[int] = []
        for path, content in groups:
            if isinstance(content, Batch):
                members = list(content)
                seeds += [spawn_seed(self.seed, i.digest) for i in members]
            else:
                members = [content]
                seeds.append(self.seed)
            owners += [path] * len(members)
            instances += members
        progress.total += len(instances) - len(groups)

        def take(index: int, outcome: Result | Exception) -> None:
            if isinstance(outcome, Result):
                self._take(owners[index], instances[index], outcome, progress)
            else:
                self._fail(owners[index], outcome)

        outcomes = run_many(
            instances,
            self.solver,
            self.limits,
            self.budget,
            seeds=seeds,
            seed=self.seed,
            starts=None if self.start is None else [self.start],
            on_event=progress.on_event,
            bound=self.bound,
            jobs=self.jobs,
            backend=self.backend,
            on_start=lambda index: progress.start(instances[index], self.solver.name),
            on_outcome=take,
        )
        rest = iter(outcomes)
        for _, content in groups:
            size = len(content) if isinstance(content, Batch) else 1
            found = [next(rest) for _ in range(size)]
            self._row(content, [r for r in found if isinstance(r, Result)])

    def _take(
        self, path: Path, instance: Instance[Any], result: Result, progress: Progress
    ) -> None:
        progress.finish(result, instance.n)
        if self.json:
            values = {"file": str(path), "n": instance.n, **result.to_dict()}
            print(json.dumps(values, allow_nan=False), flush=True)
        try:
            self.output.write(instance, result)
        except Exception as error:  # a name in no encoding, say, must not stop the others
            logger.debug("this is where", exc_info=True)
            self._fail(path, error)
        if not result.feasible:
            self._code(INTERRUPTED if result.stopped == "interrupted" else NOTHING)

    def _row(self, content: Instance[Any] | Batch[Any], results: list[Result]) -> None:
        from nco.cli.report import Row
        from nco.instances.core import Batch

        if not results:
            return
        n = content[0].n if isinstance(content, Batch) else content.n
        self.rows.append(Row(content.name or results[0].problem, n, results))

    def _fail(self, path: Path | None, error: Exception) -> None:
        self._code(code_of(error))
        if path is not None:
            # A batch fails in one line, not in hundreds.
            self._failed[path] = self._failed.get(path, 0) + 1
            if self._failed[path] > 1:
                return
        text = describe(error)
        fail(text if path is None or str(path) in text else f"{path}: {text}")

    def _code(self, code: int) -> None:
        self.code = max(self.code, code)
