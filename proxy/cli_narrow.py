"""Tables on narrow terminals: what does not fit side by side is written one below the other.

A table that is too wide would lose the ends of its numbers, and an amount without its end is
another amount. So each row becomes a block of its own, a heading and its value on each line.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table


def fitted(shown: RenderableType, screen: Console) -> RenderableType:
    """The same, with those of its tables turned that are wider than the screen."""
    if isinstance(shown, Group):
        return Group(*(fitted(each, screen) for each in shown.renderables))
    if isinstance(shown, Table) and not shown.expand and _width(shown, screen) > screen.width:
        return _turned(shown)
    return shown


def _width(table: Table, screen: Console) -> int:
    """What it needs at least: words that may be broken into lines are, numbers are not."""
    frame = len(table.columns) + 1 if table.box else 0
    _, right, _, left = table.padding
    padding = len(table.columns) * (left + right)
    if table.collapse_padding:
        padding -= (len(table.columns) - 1) * min(left, right)
    if not table.pad_edge:
        padding -= left + right
    return frame + padding + sum(_column(each, screen) for each in table.columns)


def _column(column: Column, screen: Console) -> int:
    if column.width is not None:
        return column.width
    wide = screen.options.update(width=10_000)
    found = [Measurement.get(screen, wide, each) for each in (column.header, *column.cells)]
    breaks = not column.no_wrap or column.ratio is not None
    widths = [each.minimum if breaks else each.maximum for each in found]
    return max([*widths, column.min_width or 0])


def _turned(table: Table) -> Table:
    """One block for each row; what is empty is left out."""
    blocks = Table(box=table.box, show_header=False, title=table.title, title_justify="left")
    blocks.add_column(style="bold", overflow="fold")
    blocks.add_column(overflow="fold")
    columns = [(each.header, list(each.cells)) for each in table.columns]
    for place in range(table.row_count):
        for heading, cells in columns:
            if str(cells[place]):
                blocks.add_row(heading, cells[place])
        blocks.add_section()
    return blocks
