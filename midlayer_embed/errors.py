"""Errors the caller can fix. The commands print them as one line; any other exception is a bug of this package.

Both are ValueErrors, so callers can catch them without importing this module.
"""


class InputError(ValueError):
    """An argument, file or folder is not as expected. The message names it, what came and what was expected."""


class InputTypeError(InputError, TypeError):
    """An argument has the wrong type."""


def first_line(error: Exception) -> str:
    r"""The first line of an error's message. A line that ends with a colon is joined to the next one.

    Example:
        >>> first_line(KeyError("swish2"))
        "there is no 'swish2'"
        >>> first_line(OSError("no such file\nsee the manual")), first_line(AssertionError())
        ('no such file', 'AssertionError')
        >>> first_line(ValueError("in field 'a':\n  expected int\n  got str"))
        "in field 'a': expected int"
    """
    message = ""
    for line in str(error).strip().splitlines():
        message = f"{message} {line.strip()}".strip()
        if not message.endswith(":"):
            break
    if isinstance(error, KeyError):  # its message is just the key
        return f"there is no {message}"
    return message or type(error).__name__
