"""``nco train``."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nco.cli.options import (
    Quiet,
    Verbose,
    check_limit,
    check_writable,
    complete_problem,
    start_logging,
)

if TYPE_CHECKING:
    from nco.cli.report import Line
    from nco.training.config import TrainConfig


#: Before a problem's name: module, settings and trainer of what else is trained for it.
OTHERS = {
    # Its divider, and the policy as its conqueror.
    "udc-": ("nco.udc.train", "UDCConfig", "UDCTrainer"),
    # The policy, from solutions of large instances that it improves itself.
    "self-": ("nco.udc.self_improve", "SelfConfig", "SelfTrainer"),
}


def train(
    problem: Annotated[
        str,
        typer.Argument(
            help="Problem with a policy; udc-PROBLEM for a divider with its conqueror, "
            "self-PROBLEM for self-improvement on large instances.",
            autocompletion=complete_problem,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run.", show_default=False)
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings, .toml.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", help="Label file of nco label; may repeat."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another value of a setting."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Stop then, with a checkpoint.", show_default=False),
    ] = None,
    init_from: Annotated[
        str, typer.Option("--init-from", help="Run or weights to start from, of any problem.")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, if there is one.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "",
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Train a policy on labels; prints the run's folder.

    Ctrl-C stops with a checkpoint. A resumed run ends with the same weights as one that was
    never stopped, even if it was killed. The folder is a solver at once:
    nco solve FILE --solver bq --param weights=FOLDER.
    """
    from nco.cli.report import Line
    from nco.instances.core import InputError
    from nco.robust import LEARNED, OWN
    from nco.training.checkpoints import checkpoints
    from nco.training.config import TrainConfig
    from nco.training.train import Trainer, TrainingError

    start_logging(verbose, quiet)
    check_limit(minutes)
    check_writable(out, folder=True)
    found = checkpoints(out)
    if found and not resume:
        raise InputError(out, None, "holds a run", "go on with --resume, or use another folder")
    if resume and config is None and (out / "config.toml").is_file():
        config = out / "config.toml"
    if problem in (*LEARNED, OWN):
        if init_from:
            what = "value networks are trained from the start"
            raise InputError(None, None, what, "leave out --init-from")
        return _value_network(
            problem, out, config, data or [], change or [], minutes, device, quiet
        )
    kind, make = TrainConfig, Trainer
    for prefix, (module, settings_of, trainer_of) in OTHERS.items():
        if problem.startswith(prefix):
            found_there = importlib.import_module(module)
            kind, make = getattr(found_there, settings_of), getattr(found_there, trainer_of)
            problem = problem.removeprefix(prefix)
            break
    changes = [*(change or ())]
    if config is None:
        changes.append(f"problem={problem!r}")
    if data:
        changes.append(f"data={[*data]!r}")
    if init_from:
        changes.append(f"init_from={init_from!r}")
    if device:
        changes.append(f"device={device!r}")
    settings = _settings(kind, config, changes, problem)
    with Line(not quiet) as line:
        told = _Teller(line, settings.steps)
        try:
            trainer = make(settings, out, on_row=told)
            _run(trainer, minutes)
        except (ValueError, TrainingError, MemoryError) as error:
            raise InputError(None, None, str(error) or "out of memory") from error
    _curve(out)
    print(out)
    told.stopped(trainer.step)
    return 0


def _value_network(
    problem: str,
    out: Path,
    config: Path | None,
    data: list[str],
    changes: list[str],
    minutes: float | None,
    device: str,
    quiet: bool,
) -> int:
    """Train a value network; its weights are written into the run's folder, too."""
    from nco.cli.report import Line
    from nco.instances.core import InputError
    from nco.robust.train import ValueTrainer, ValueTraining

    given = {"problem": problem} | ({"device": device} if device else {})
    if data:
        given["labels"] = data[0]
    try:
        settings = ValueTraining.read(given, config, changes)
        if len(data) > 1 or not settings.labels:
            raise ValueError("a value network needs one label file; give --data FILE.")
        with Line(not quiet) as line:
            told = _Teller(line, settings.steps)
            trainer = ValueTrainer(settings, out, on_row=told)
            _run(trainer, minutes)
            trainer.export(out, f"{problem}-v1")
    except (ValueError, MemoryError) as error:
        raise InputError(None, None, str(error) or "out of memory") from error
    _curve(out)
    print(out)
    told.stopped(trainer.step)
    return 0


def _run(trainer: Any, minutes: float | None) -> None:
    """Run it; Ctrl-C and SIGTERM end it with a checkpoint."""
    from nco.training.processes import stop_on_signals

    with stop_on_signals(trainer.stop):
        trainer.run(math.inf if minutes is None else minutes)


def _settings(
    kind: type[TrainConfig], config: Path | None, changes: list[str], problem: str
) -> TrainConfig:
    from nco.instances.core import InputError

    try:
        given = kind.read(config, changes)
        # Some settings name what is planned: of an SPCTSP a PCTSP.
        if given.problem not in (problem, kind(problem=problem).problem):
            raise InputError(config, None, f"settings for {given.problem}, not for {problem}")
        return given
    except InputError:
        raise
    except ValueError as error:
        raise InputError(None, None, str(error), "see scripts/training for examples") from None


class _Teller:
    """Shows the rows of the metrics: one line that changes on a terminal, else some lines."""

    def __init__(self, line: Line, steps: int):
        self.line = line
        self.steps = steps
        self.gap = ""

    def __call__(self, row: Mapping[str, Any]) -> None:
        if "gap" in row:
            self.gap = f", greedy gap {row['gap']:.3f} %"
            self.line.say(f"step {row['step']}{self.gap}")
            return
        if "mae" in row:  # of a value network
            self.gap = f", held-out error {row['mae']:.4f}"
            self.line.say(f"step {row['step']}{self.gap}")
            return
        loss = row.get("action_loss", row["loss"])
        told = f"step {row['step']} of {self.steps}: loss {loss:.4f}{self.gap}"
        key = next((k for k in row if k.endswith("_per_second")), None)
        if key is None:
            self.line.show(told)
            return
        self.line.show(
            f"{told}, "
            f"{row[key]:,.3g} {key.removesuffix('_per_second')}/s, {row['tflops']:.3g} TFLOP/s "
            f"({100 * row['peak_share']:.0f} % of peak)"
        )

    def stopped(self, step: int) -> None:
        """Say so if it ended before its last step."""
        if step < self.steps:
            self.line.say(f"stopped at step {step} of {self.steps}; go on with --resume")


def _curve(folder: Path) -> None:
    from nco.training.plot import save_curve

    if (folder / "metrics.jsonl").is_file():
        save_curve(folder)
