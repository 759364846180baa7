"""`geomq user`: the users file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.access.users import User, UsersError, check_name, make_user, read_users, write_users
from broker.cli.common import fail

app = typer.Typer(help="Users and their passwords.", no_args_is_help=True)

FileOption = Annotated[
    Path, typer.Option("--file", "-f", envvar="GEOMQ_ACCESS__USERS", help="The users file.")
]
NameArgument = Annotated[str, typer.Argument(help="The user's name.")]
ScramOption = Annotated[
    bool, typer.Option("--scram", help="Also for SCRAM-SHA-256, the enhanced authentication of MQTT 5.")
]
StdinOption = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input, not from the terminal."),
]


def _known(file: Path) -> dict[str, User]:
    try:
        return read_users(file) if file.exists() else {}
    except UsersError as error:
        fail(str(error))


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _set(file: Path, name: str, scram: bool, from_stdin: bool, new: bool) -> None:
    users = _known(file)
    try:
        check_name(name)
        if new and name in users:
            raise UsersError(f"there is a user {name!r}; `geomq user passwd` changes the password")
        if not new and name not in users:
            raise UsersError(f"there is no user {name!r}")
        users[name] = make_user(_password(from_stdin), scram or (not new and users[name].scram is not None))
        write_users(file, users)
    except UsersError as error:
        fail(str(error))


@app.command()
def add(
    name: NameArgument, file: FileOption, scram: ScramOption = False, password_stdin: StdinOption = False
) -> None:
    """Add a user; a running node knows it within a second."""
    _set(file, name, scram, password_stdin, new=True)


@app.command()
def passwd(
    name: NameArgument, file: FileOption, scram: ScramOption = False, password_stdin: StdinOption = False
) -> None:
    """Change a user's password."""
    _set(file, name, scram, password_stdin, new=False)


@app.command()
def remove(name: NameArgument, file: FileOption) -> None:
    """Remove a user; connections that are open stay so."""
    users = _known(file)
    if users.pop(name, None) is None:
        fail(f"there is no user {name!r}")
    try:
        write_users(file, users)
    except UsersError as error:
        fail(str(error))


@app.command("list")
def list_users(file: FileOption) -> None:
    """Print the users and by what they authenticate."""
    if not file.exists():
        fail(f"--file {file}: there is no such file; `geomq user add` makes one")
    for name, user in sorted(_known(file).items()):
        ways = [way for way, has in (("password", user.argon2), ("SCRAM-SHA-256", user.scram)) if has]
        print(f"{name}\t{', '.join(ways)}")
