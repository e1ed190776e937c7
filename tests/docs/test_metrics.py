"""Every metric is documented with its type and its labels, and every documented metric exists."""

from __future__ import annotations

import re

import pytest

from coordinator.http.metrics import METRICS, Described
from tests.docs.pages import page, prose, tables

ROWS = {cells[0].strip("`"): cells for cells in tables(page("metrics.md")) if cells[0].startswith("`coordinator_")}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_documented_with_its_type_and_labels(metric: Described) -> None:
    row = ROWS[metric.name]
    assert row[1] == metric.type
    if metric.labels != ("partition",):
        assert row[2] == ", ".join(f"`{label}`" for label in metric.labels)


def test_no_metric_is_documented_that_does_not_exist() -> None:
    known = {metric.name for metric in METRICS}
    assert set(ROWS) == known
    alerts = set(re.findall(r"coordinator_[a-z_]+", page("metrics.md")))
    assert alerts <= known
    assert prose(page("metrics.md")) != page("metrics.md"), "the alerts are in a block"
