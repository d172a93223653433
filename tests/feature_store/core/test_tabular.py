"""Results as tables, in a notebook and for pandas and Arrow."""

import pyarrow as pa

from feature_store.core.tabular import Tabular, html_table, rows_table


class Result(Tabular):
    def to_arrow(self):
        return rows_table([{"name": "<b>", "value": 0.25}, {"name": None, "other": [1.5, 2.0]}])


def test_a_result_is_a_table_in_a_notebook_and_for_pandas():
    frame = Result().to_pandas()
    assert list(frame.columns) == ["name", "value", "other"]
    assert frame["value"].iloc[0] == 0.25
    page = Result()._repr_html_()
    assert page.startswith("<div><table>")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert '<td style="text-align:right">0.250</td>' in page
    assert "1.500, 2.000" in page


def test_of_many_rows_the_first_are_shown():
    page = html_table(pa.table({"x": pa.array(range(1000))}))
    assert page.count("<tr>") == 61
    assert "and 940 more rows" in page


def test_columns_of_nulls_are_numbers():
    table = rows_table([{"x": None}, {"x": None, "y": 1}])
    assert table.schema.field("x").type == pa.float64()
    assert table["y"].to_pylist() == [None, 1]
    assert rows_table([]).num_rows == 0
