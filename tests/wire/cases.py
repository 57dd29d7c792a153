"""All cases: the tables of ``cases_….py``, put together."""

from dataclasses import replace

from . import cases_bodies, cases_fields, cases_heads
from .case import Case

TABLES = (cases_heads, cases_fields, cases_bodies)

ALL: tuple[Case, ...] = tuple(
    replace(case, group=table.__name__.rpartition("cases_")[2]) for table in TABLES for case in table.CASES
)
"""Every case, table by table."""
