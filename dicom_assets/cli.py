"""The command `dicom-assets`: what Dagster has no command for.

Here is the list of commands. The options and the work of each are in a module or room of
`dicom_assets.commands`, imported only when that command runs, because Dagster's import takes
seconds. Materializing, backfilling and watching are Dagster's own: `dagster asset materialize`,
`dagster dev`.
"""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, ENOSPC, ENOTDIR, EPERM, EROFS
from importlib import import_module
from io import TextIOWrapper
from keyword import iskeyword
from typing import Any, Final

import click

from dicom_assets.errors import DicomAssetsError
from dicom_assets.settings import keep_private, keep_quiet, use_archive

# By name: the module or room, in which the command has the same name, and the line of help.
COMMANDS: Final = {
    "adopt": ("adopt", "Report to an empty or moved Dagster which hours the tables show."),
    "alerts": ("alerts_test", "Alerts: mail, Slack, Teams, PagerDuty, webhooks."),
    "check": ("check", "Check settings, service, storage and Dagster, and print remedies."),
    "demo": ("demo", "Fill the tables from the embedded archive, and print them."),
    "dev": ("dev", "Open Dagster's page and daemon on the tables."),
    "docs": ("docs", "Write the generated pages of the documentation anew."),
    "emulator": ("emulator", "Serve a DICOM service on this machine."),
    "erased": ("erasure", "Show what still holds a study, and until when."),
    "estimate": ("estimate", "Estimate what loading the missing hours takes."),
    "fabric": ("fabric", "Microsoft Fabric: the tables in a Lakehouse."),
    "find": ("find", "Find a study, and explain why it is in the tables, or not."),
    "import": ("import_", "Bring a folder of DICOM files into tables of their own."),
    "migrate": ("migrate", "Take over the tables that Data Factory's template wrote."),
    "narrow": ("narrow", "Remove the rows of data partitions that are not kept any more."),
    "repair": ("repair", "Show what other programs wrote to the tables, and mend it with --yes."),
    "report": ("report", "Make the report anew from the tables, and open it in a browser."),
    "sql": ("sql", "Ask the tables in SQL, or one of nineteen questions by name."),
    "status": ("status", "Print whether the tables are complete."),
    "view": ("view", "Print SQL that shows the tables under DICOM's keywords."),
}


# Those that work on an archive of `import`, too.
NAMED: Final = (
    "adopt",
    "check",
    "dev",
    "erased",
    "estimate",
    "find",
    "narrow",
    "repair",
    "report",
    "sql",
    "status",
    "view",
)

_UNWRITABLE: Final = (EACCES, EDQUOT, ENOSPC, ENOTDIR, EPERM, EROFS)


def _name_option() -> click.Option:
    def use(_: click.Context, __: click.Parameter, name: str | None) -> None:
        use_archive(name)

    help_ = "Work on the archive of that name that `import` has made."
    return click.Option(["--name"], callback=use, expose_value=False, is_eager=True, help=help_)


@contextmanager
def ended_early() -> Iterator[None]:
    """End the process that the block ends, without Python's last steps.

    A thread of Arrow that drops an object of Python while Python ends aborts the process (SIGABRT,
    exit code 134) before Python 3.14, after the output and with the work done
    (docs/use/readers.md). So this is the last step: other threads have ended, everything that was
    registered to run at the end has run, and what was written is flushed.
    """
    code: int | None = None

    def end() -> None:
        status = code
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = 120 if status == 0 else status  # as Python has it
        if status is not None:
            os._exit(status)

    atexit.register(end)  # the first that is registered runs last
    for stream in (sys.stdout, sys.stderr):
        # A locale without our signs, as POSIX may be, gets question marks in their place.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        yield
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise


class CommandList(click.Group):
    """A group that imports a command when it runs, and ends our errors as one explained line."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the command of this process, as its script does, and end the process."""
        with ended_early():
            return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands, in alphabetical order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dicom_assets.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name + "_" * iskeyword(cmd_name))
        if cmd_name in NAMED and not any(option.name == "name" for option in command.params):
            command.params.append(_name_option())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; one of our errors becomes a line on stderr and the exit code 1."""
        try:
            return super().invoke(ctx)
        except DicomAssetsError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            if error.errno not in _UNWRITABLE or error.filename is None:
                raise
            raise click.ClickException(
                f"{error.filename} cannot be written: {error.strerror}. Run the command in a "
                "folder of yours with space, or name one in DAGSTER_HOME and one in "
                "DICOM_TABLES_URL"
            ) from None


@click.group(cls=CommandList, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dicom-assets")
@click.pass_context
def main(context: click.Context) -> None:
    """Keep Delta tables of DICOM instances, series and studies in step with a DICOM service."""
    keep_quiet()
    if context.invoked_subcommand != "docs":  # pages are for everybody
        keep_private()


if __name__ == "__main__":
    main()
