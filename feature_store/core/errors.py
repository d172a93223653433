"""The exception for mistakes that the user can correct."""


class UserError(Exception):
    """Bad input or configuration.

    The text is one sentence that says what was wrong, what was expected and what to do. The command
    line prints it and exits with a non-zero status, without a traceback.
    """


class PlaceError(UserError):
    """A place that a command must not write to; its input may be as it should."""
