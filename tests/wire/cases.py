"""All cases: the tables of ``cases_….py``, put together."""

from dataclasses import replace

from . import (
    cases_answers,
    cases_attacks,
    cases_bodies,
    cases_fields,
    cases_flow,
    cases_heads,
    cases_http2,
    cases_lies,
)
from .case import Case

TABLES = (cases_heads, cases_fields, cases_bodies, cases_answers, cases_flow, cases_attacks, cases_lies, cases_http2)

ALL: tuple[Case, ...] = tuple(
    replace(case, group=table.__name__.rpartition("cases_")[2]) for table in TABLES for case in table.CASES
)
"""Every case, table by table."""
