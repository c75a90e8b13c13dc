"""The mistakes a caller can mend. Command lines print exactly these as one line; anything else is a defect of ours.

Both are ValueErrors, so that callers need not know this module to catch them.
"""


class InputError(ValueError):
    """An argument, file or folder is not what was expected; the message names what came and what was expected."""


class InputTypeError(InputError, TypeError):
    """An argument has the wrong type."""


def first_line(error: Exception) -> str:
    r"""What an error says, for a message of one line. A line that ends with a colon goes on with the next one.

    Example:
        >>> first_line(KeyError("swish2"))
        "there is no 'swish2'"
        >>> first_line(OSError("no such file\nsee the manual")), first_line(AssertionError())
        ('no such file', 'AssertionError')
        >>> first_line(ValueError("in field 'a':\n  expected int\n  got str"))
        "in field 'a': expected int"
    """
    said = ""
    for line in str(error).strip().splitlines():
        said = f"{said} {line.strip()}".strip()
        if not said.endswith(":"):
            break
    if isinstance(error, KeyError):  # says no more than the key
        return f"there is no {said}"
    return said or type(error).__name__
