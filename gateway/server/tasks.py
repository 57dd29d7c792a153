"""Hypercorn's task group over a nursery that is there already: one per connection, and not one more per protocol."""

import trio
from hypercorn.trio.task_group import TaskGroup


class Tasks(TaskGroup):
    """What Hypercorn's streams spawn in. It opens and closes nothing."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__()
        self._nursery = nursery
