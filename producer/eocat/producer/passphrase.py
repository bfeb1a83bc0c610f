"""A key of the keys folder, opened with the passphrase that its owner gives."""

import os
import sys
from typing import TYPE_CHECKING

import typer

from eocat.verify.errors import ConfigError

if TYPE_CHECKING:
    from .signer import KeyFile


def open_key(name: str) -> "KeyFile":
    from .signer import is_encrypted, read_key

    return read_key(name, passphrase(name, new=False) if is_encrypted(name) else None)


def passphrase(name: str, *, new: bool) -> bytes:
    """From EOCAT_KEY_PASSPHRASE, else asked for at the terminal."""
    if (given := os.environ.get("EOCAT_KEY_PASSPHRASE")) is not None:
        if not given:
            raise ConfigError(
                "EOCAT_KEY_PASSPHRASE is empty", hint="set a passphrase, or use --no-passphrase"
            )
        return given.encode()
    if not sys.stdin.isatty():
        raise ConfigError(
            f"key {name} needs a passphrase and there is no terminal to ask at",
            hint="set EOCAT_KEY_PASSPHRASE, or make the key with --no-passphrase",
        )
    answered: str = typer.prompt(
        f"passphrase of key {name}", hide_input=True, confirmation_prompt=new, err=True
    )
    return answered.encode()
