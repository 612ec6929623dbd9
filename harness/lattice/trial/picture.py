"""The picture of the report: what each part does to the loss, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import altair as alt
import vl_convert

from cllm.harness.lattice.trial.comparison import Difference
from cllm.harness.lattice.trial.run import PLAIN, VARIANTS

COLORS = ("#0b7285", "#e8590c")
WIDTH, ROW = 300, 36


def svg(found: Mapping[str, Sequence[Difference]]) -> str:
    """Differences by how long was trained; to the left of 0 a part helps."""
    rows = [asdict(each) | {"trained": name} for name, many in found.items() for each in many]
    names = [*found]
    y = alt.Y("variant:N", sort=[v for v in VARIANTS if v != PLAIN], title=None)
    offset = alt.YOffset("trained:N", sort=names)
    color = alt.Color(
        "trained:N", sort=names, title=None, scale=alt.Scale(domain=names, range=COLORS)
    )
    title = "validation loss less the plain model's, nats a token"
    chart = alt.Chart()  # of the rows of its facet
    layers = alt.layer(
        chart.mark_rule(color="#868e96").encode(x=alt.datum(0)),
        chart.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", title=title), x2="high:Q", y=y, yOffset=offset, color=color
        ),
        chart.mark_point(filled=True, size=60, opacity=1).encode(
            x="mean:Q", y=y, yOffset=offset, color=color
        ),
    ).properties(width=WIDTH, height=ROW * (len(VARIANTS) - 1))
    columns = alt.Column("text:N", title=None, sort=None)
    whole = layers.facet(column=columns, data=alt.InlineData(values=rows))
    whole = whole.properties(background="white", padding=12).configure_legend(orient="bottom")
    drawn: str = vl_convert.vegalite_to_svg(whole.to_dict())
    return drawn
