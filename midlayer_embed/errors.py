"""The mistakes a caller can mend. Command lines print exactly these as one line; anything else is a defect of ours.

Both are ValueErrors, so that callers need not know this module to catch them.
"""


class InputError(ValueError):
    """An argument, file or folder is not what was expected; the message names what came and what was expected."""


class InputTypeError(InputError, TypeError):
    """An argument has the wrong type."""


def first_line(error: Exception) -> str:
    r"""What an error says, for a message of one line.

    Example:
        >>> first_line(OSError("no such file\nsee the manual")), first_line(AssertionError())
        ('no such file', 'AssertionError')
    """
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
