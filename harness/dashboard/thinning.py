"""Fewer points that look the same: the extremes of each stretch stay.

After Jugel et al., "M4: a visualization-oriented time series data aggregation" (VLDB 2014), here
by number instead of by pixel. `templates/format.js` does the same in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence


def thin(values: Sequence[float], stretches: int) -> list[int]:
    """Indices of the least and the greatest value of each stretch, of the first and the last one.

    All of them where there are no more than two for each stretch.
    """
    count = len(values)
    if count <= 2 * stretches:
        return list(range(count))
    kept = {0, count - 1}
    for stretch in range(stretches):
        indices = range(stretch * count // stretches, (stretch + 1) * count // stretches)
        kept |= {min(indices, key=values.__getitem__), max(indices, key=values.__getitem__)}
    return sorted(kept)
