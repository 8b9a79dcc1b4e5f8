"""A command line read by a command that has nothing but settings."""

from __future__ import annotations

from trackweave.options.commands import command_of
from trackweave.options.flags import with_settings
from trackweave.options.schema import Schema
from trackweave.options.sources import ResolvedSettings


def parsed(schema: Schema, *arguments: object) -> ResolvedSettings:
    """The settings that a command with this schema gets from these arguments and the environment."""
    received: list[ResolvedSettings] = []

    @with_settings(schema)
    def command(settings: ResolvedSettings) -> None:
        received.append(settings)

    command_of(command)(args=[str(argument) for argument in arguments], prog_name="test", standalone_mode=False)
    return received[0]
