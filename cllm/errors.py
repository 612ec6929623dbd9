"""The one exception that a user of CLLM can cause."""


class CllmError(ValueError):
    """Bad input: names the thing, its value and what is allowed.

    The command line prints it as one line and exits with status 2.
    """
