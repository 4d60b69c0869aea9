"""Names from data as a terminal shows them: no markup, no control characters, no table that a long name blows up."""

from __future__ import annotations

from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps.errors import escaped, shortened

LONGEST_NAME = 80
"""Characters of a name; of a longer one its beginning and its end are shown."""

LONGEST_TWIN = 240
"""The same of a twin, which is named by its settings."""

LONGEST_LINE = 4000


def name_text(name: Any, most: int = LONGEST_NAME) -> str:
    """Write a name from data (of an area, a recording, a twin, a contrast) escaped, and shortened where it is long."""
    return shortened(escaped(str(name)), most)


def print_line(console: Console, text: str, style: str = "", soft_wrap: bool = False) -> None:
    """Print a line of text as it is: what looks like markup or an escape sequence is shown, not followed."""
    shown = shortened(escaped(text), LONGEST_LINE)
    console.print(Text(shown, style=style), soft_wrap=soft_wrap, highlight=False)


class PlainTable(Table):
    """A table without lines, whose title, headings and cells are shown as they are, markup included."""

    def __init__(self, title: str | None = None, padding: int = 2) -> None:
        heading = None if title is None else Text(shortened(escaped(title), LONGEST_LINE), style="table.title")
        super().__init__(title=heading, title_justify="left", box=None, padding=(0, padding, 0, 0))

    def column(self, heading: str, justify: Literal["left", "right"] = "left", no_wrap: bool = False) -> None:
        """Add a column; its heading may have several lines."""
        self.add_column(Text(escaped(heading, lines=True)), justify=justify, no_wrap=no_wrap)

    def row(self, *cells: str) -> None:
        """Add a row."""
        self.add_row(*(Text(shortened(escaped(cell), LONGEST_LINE)) for cell in cells))
