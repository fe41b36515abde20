"""What people say of their decisions: author and reason, one line of text each, wherever they are given."""

from __future__ import annotations

from lstops.errors import ConfigError

#: longer ones are no reason, but a document; it belongs into a logbook
MAX_LENGTH = 1000


def checked_words(what: str, author: str, reason: str) -> tuple[str, str]:
    """Author and reason, each in one line: line breaks become blanks.

    Parameters
    ----------
    what : str
        What they decide, for the message: "the withdrawal of v0001".

    Raises
    ------
    ConfigError
        If one of them is empty, longer than `MAX_LENGTH`, or holds what cannot be shown (control characters, broken
        text): both are kept with the data, in files and tables that everybody prints.
    """
    author, reason = one_line(author), one_line(reason)
    if not author or not reason:
        raise ConfigError(f"{what} needs an author and a reason.", "give both, in words (--author, --reason).")
    for name, text in (("author", author), ("reason", reason)):
        if odd := [character for character in text if not character.isprintable()]:
            raise ConfigError(
                f"the {name} of {what} holds the character {odd[0]!a}, which cannot be shown.",
                "write plain text, without control characters.",
            )
        if len(text) > MAX_LENGTH:
            raise ConfigError(
                f"the {name} of {what} has {len(text)} characters, the most is {MAX_LENGTH}.",
                "say it in short, and name where the rest is written.",
            )
    return author, reason


def one_line(text: str) -> str:
    """Text in which line breaks and runs of blanks are one blank."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """Text from a file as one line that can be printed: what cannot be is a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
