"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Bad input or configuration.

    Its text is one sentence that says what was wrong, what was expected and what to do; the command
    line prints it and exits with a non-zero status, without a traceback.
    """
