"""The ids of records in an org: 15 characters, or the same and 3 to check them by.

Source: Salesforce Help "What Are the Differences Between 15 Character and 18
Character Record IDs".
"""

import re

SHORT = re.compile(r"[A-Za-z0-9]{15}")
CHECKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
"""One for each way in which five characters may be capitals or not."""
PART = 5


def same_id(one: str, other: str) -> bool:
    """Whether two ids are of one record, whichever form each has."""
    return long_id(one) == long_id(other)


def long_id(text: str) -> str:
    """Return the 18 characters of an id of 15, and anything else as it is."""
    if not SHORT.fullmatch(text):
        return text
    return text + "".join(
        _check(text[at : at + PART]) for at in range(0, len(text), PART)
    )


def _check(part: str) -> str:
    """Tell which of the characters are capitals: the first is the lowest bit."""
    return CHECKS[sum(1 << at for at, letter in enumerate(part) if letter.isupper())]
