"""Errors meant for the person at the keyboard: one sentence, naming the file, field or flag and the way out."""

import difflib
from collections.abc import Iterable


class VidrecError(Exception):
    """Something failed for a reason the user can act on; the command line prints the sentence and exits with 1."""

    exit_code = 1


class UsageError(VidrecError):
    """The command, configuration or argument is wrong; the command line prints the sentence and exits with 2."""

    exit_code = 2


class NoSplitError(UsageError):
    """A data set has no split of that name."""


class BusyError(VidrecError):
    """Another process is at work in the same folder."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" for the choice nearest to `name`, else the list of choices."""
    choices = sorted(set(choices))
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f" (did you mean '{near[0]}'?)"
    return f" (choose from: {', '.join(choices)})" if choices else ""
