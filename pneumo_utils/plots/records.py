"""What the columns "on record" of a chapter come from."""

import pandas as pd

from pneumo_utils.plots.tables import table


def records_table(records, took):
    """A row a record; `took` puts seconds into words."""
    rows = [
        {
            "record": each.title.removeprefix("on record, "),
            "data": each.data,
            "weights": each.weights,
            "settings": each.tier,
            "made": f"in {took(each.seconds)} on {each.device}, {each.finished[:10]}",
        }
        for each in records
    ]
    return table(
        pd.DataFrame(rows),
        name="records",
        caption="The records of this chapter. A record keeps numbers, settings and a digest of the data, and no "
        "picture of anyone.",
    )
