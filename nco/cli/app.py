"""The commands, imported only when one is used, and the exit codes."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command as build

#: Command -> "module:function"; a new command is one file and one line here.
COMMANDS: Mapping[str, str] = {
    "solve": "nco.cli.solve:solve",
    "check": "nco.cli.check:check",
    "info": "nco.cli.info:info",
    "convert": "nco.cli.convert:convert",
    "generate": "nco.cli.generate:generate",
    "label": "nco.cli.label:label",
    "train": "nco.cli.train:train",
    "plot": "nco.cli.plot:plot",
    "list": "nco.cli.listing:listing",
    "bench": "nco.cli.bench:bench",
    "demo": "nco.cli.demo:demo",
}

#: Exit codes: feasible; none found, check or bench failed; bad input; interrupted with nothing.
OK, NOTHING, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# typer brings its own copy of click or uses the installed one, by version; this is its
# exception for wrong options and arguments either way.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

logger = logging.getLogger("nco")


class Commands(TyperGroup):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(getattr(importlib.import_module(module), attribute))
        return build(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or suggest the nearest."""
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)}"
            raise _UsageError(f"unknown command {args[0]!r} ({hint})")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="nco",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"nco {version('nco')}")
        raise typer.Exit


@app.callback()
def _nco(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Solve, check, convert and draw combinatorial optimization problems.

    Exit codes: 0 a feasible result (also after Ctrl-C), 1 none found, or a check or a run
    of bench failed, 2 bad input, 130 interrupted with nothing.
    """


def fail(error: object, code: int = BAD_INPUT) -> int:
    """Print one line on stderr and return the exit code."""
    text = " ".join(str(error).split())
    print(f"nco: error: {text}", file=sys.stderr, flush=True)
    return code


def code_of(error: BaseException) -> int:
    """The exit code of an error: 2 for what the user can mend, else 1."""
    from nco.instances.core import MissingExtraError

    # Bad input has ValueErrors of our own: InputError, UnsupportedError, ...
    ours = isinstance(error, ValueError) and type(error).__module__.partition(".")[0] == "nco"
    return BAD_INPUT if ours or isinstance(error, MissingExtraError) else NOTHING


def describe(error: BaseException, verbose: bool = True) -> str:
    """The text of an error; what nobody foresaw also says its kind.

    Parameters
    ----------
    error
        What was raised.
    verbose
        Whether the command has -v.
    """
    from nco.instances.core import CheckError

    if isinstance(error, CheckError) or code_of(error) == BAD_INPUT:
        return str(error)
    text = f"{type(error).__name__}: {error or 'no message'}"
    return f"{text} (-vv shows where)" if verbose else text


def run(args: list[str]) -> int:
    """Run one command line and return the exit code."""
    try:
        code = build(app).main(args=args or ["--help"], prog_name="nco", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        return fail(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; nothing more is to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOTHING
    except Exception as error:
        logger.debug("this is where", exc_info=True)
        return fail(describe(error, _is_verbose(args)), code_of(error))
    return int(code or OK)


def _is_verbose(args: list[str]) -> bool:
    """Whether the command asked for, which is imported by now, has -v."""
    module, _, attribute = COMMANDS.get(args[0] if args else "", "").partition(":")
    command = getattr(sys.modules.get(module), attribute, None) if module else None
    return command is not None and "verbose" in inspect.signature(command).parameters


def _usage(error: Any) -> str:
    text = error.format_message().rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "nco"
    return text if text.endswith(")") else f"{text} (see {command} --help)"
