"""Words and numbers as people read them."""

from __future__ import annotations

MOST_SHOWN = 80
"""Characters of a name in a table."""

JOINER = "\u200d"
"""Of emoji, as in those of families."""


def shown(text: str | None) -> str:
    """A user's text on one line, with control characters spelt out, but not what joins characters into one."""
    if text is None:
        return "-"
    return "".join(
        mark if mark.isprintable() or mark == JOINER else mark.encode("unicode_escape").decode() for mark in text
    )


def shortened(text: str | None) -> str:
    """As `shown`, but of a long text the beginning and the end: a class may be called by a whole sentence."""
    whole = shown(text)
    half = MOST_SHOWN // 2
    return whole if len(whole) <= MOST_SHOWN else f"{whole[:half]}...{whole[-half:]}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """3.1 s, 2 min 5 s, 1 h 12 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: 1 row, 2,000 rows."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
