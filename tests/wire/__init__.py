"""The fidelity suite: what goes in comes out, exactly, or is refused. Any reverse proxy can be put to it.

Scripted clients say exact bytes over HTTP/1.1, or exact frames over HTTP/2; a scripted backend answers with exact
bytes; a case is a row of data that says what each does and what must come of it (``case.Case``), by RFC or by
transparency. Nothing here shares code with the gateway's parsers.

The tables are in ``cases_….py``; ``cases.ALL`` has all of them. They are used three times:

- ``test_memory.py``: this gateway, in memory, on the virtual clock, each case before a gateway of its own;
- ``test_sockets.py``: this gateway as a process, over TCP, all cases before the same one;
- any other proxy, over TCP::

    async with running_backend(listener) as backend:             # a trio.SocketListener that the proxy's upstream is
        async for verdict in run_cases(ALL, "1.1", ("127.0.0.1", 8080), backend):
            print(verdict.case.group, verdict.case.name, verdict.passed, verdict.faults)

The proxy passes every target below ``messages.PREFIX`` (``/w``) on to the backend as it is, speaks HTTP/1.1 to it, and
HTTP/1.1 and HTTP/2 by prior knowledge to clients, and takes bodies of 100 MB. ``case.slow`` marks those. What stands in
``Case.ours``, ``Case.known``, ``contract.py`` and ``test_bytes.py`` is about this gateway alone; ``test_run.py`` is
about the suite: that it finds proxies that do wrong.

To add a case, add a row to the table that it belongs to, with the section that requires it. What an RFC leaves open is
``checks.Either``; what only this gateway promises goes into ``contract.py``.
"""
