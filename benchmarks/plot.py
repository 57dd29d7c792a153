"""Horizontal bars in groups, as plain SVG."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, LABELS, NUMBERS = 760, 190, 60
"""Pixels: of the whole, and of it for the labels on the left and for the numbers behind the longest bar."""
BAR, GAP, TITLE = 16, 26, 40
COLOURS = ("#2a6f97", "#e07a5f", "#81b29a", "#b0a8b9", "#8d99ae", "#6d597a", "#c9ada7", "#4a4e69")


def bars(title: str, groups: Mapping[str, Sequence[tuple[str, float]]], digits: int = 0) -> str:
    """Draw a bar for each (label, value) of each group; one label has one colour throughout."""
    labels = list(dict.fromkeys(label for rows in groups.values() for label, _ in rows))
    colours = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}
    longest = max((value for rows in groups.values() for _, value in rows), default=0) or 1
    scale = (WIDTH - LABELS - NUMBERS) / longest
    shapes = [text(10, 24, title, "bold")]
    y = TITLE
    for name, rows in groups.items():
        shapes.append(text(10, y + 14, name, "bold"))
        y += GAP - 4
        for label, value in rows:
            shapes.append(text(LABELS - 8, y + 12, label, anchor="end"))
            shapes.append(
                f'<rect x="{LABELS}" y="{y}" width="{value * scale:.1f}" height="{BAR - 2}" fill="{colours[label]}"/>'
            )
            shapes.append(text(LABELS + value * scale + 6, y + 12, f"{value:.{digits}f}"))
            y += BAR
        y += GAP - BAR
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, weight: str = "normal", anchor: str = "start") -> str:
    """Write words at a point."""
    place = f'x="{x:.1f}" y="{y}" font-weight="{weight}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(words)}</text>"
