"""The command line: `diffusion-mpc`, or `./dmpc` in a checkout.

cyclopts makes the parser from signatures and docstrings, for each benchmark from the fields of its
dataclass: every option, its default and its help are written once. Modules are imported by the
command that needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from diffusion_mpc.arguments import CommandError
from diffusion_mpc.cli import (
    bag_commands,
    inspection_commands,
    learning_commands,
    run_commands,
    search_commands,
)
from diffusion_mpc.names import ERROR

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended before it had begun its work, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    The exit code is 0 where it did what it was asked to, 1 where it did not, 2 for a usage error,
    130 where Ctrl-C ended it.
    """
    try:
        command = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        # A benchmark's class is its command: the parser makes the object, options and all.
        return int(command() if callable(command) else command or 0)
    except UnusedCliTokensError as error:
        sys.stderr.write(f"{ERROR}unrecognised argument '{(error.unused_tokens or [''])[0]}'\n")
        return 2
    except CycloptsError as error:
        sys.stderr.write(f"{ERROR}{error}\n")
        return 2
    except (CommandError, ValueError) as error:
        sys.stderr.write(f"{ERROR}{error}\n")
        return 1
    except OSError as error:
        # A folder that cannot be made, a disk that is full.
        where = f"'{error.filename}': " if error.filename else ""
        sys.stderr.write(f"{ERROR}{where}{error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def _shown(default: object) -> object:
    """Default value as it would be typed; None, which is not shown, where nothing would be."""
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or None
    return None if default is False else default


app = App(
    name="diffusion-mpc",
    help="Online, diffusion-based model predictive control with ROS 2.",
    version_flags=(),
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", consume_multiple=True, show_default=_shown),
)
app.command(
    "diffusion_mpc.benchmark.command_line:app",
    name="benchmark",
    help="Measure speed and quality, and compare with other algorithms.\n\n"
    "example: diffusion-mpc benchmark speed",
)
for command in (
    run_commands.demo,
    run_commands.sim,
    bag_commands.evaluate,
    bag_commands.replay,
    search_commands.sweep,
    search_commands.optimize,
    learning_commands.collect,
    learning_commands.train,
    learning_commands.export,
    learning_commands.policy,
    inspection_commands.tasks,
    inspection_commands.check,
    inspection_commands.test,
):
    app.command(command)
