"""The load generators: how they are called, and what their output says.

wrk for HTTP/1.1, h2load for HTTP/2 and where wrk is missing. Both are closed loops: an answer that is late delays the
next request, so the p99 is that of patient clients.

h2load runs for a number of requests, not for a time: when its time is up it drops its connections with answers under
way, which ends stock Hypercorn's worker.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workloads import Load, Workload

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class NoLoadError(Exception):
    """What a load generator said cannot be used. ``str(error)`` is one line."""


def installed(workload: Workload) -> str | None:
    """The generator to use for this workload, or None where there is none."""
    wanted = ["h2load"] if workload.http2 else ["wrk"] if workload.bulk else ["wrk", "h2load"]
    return next((name for name in wanted if shutil.which(name)), None)


def wrk_command(workload: Workload, url: str, *, scratch: Path) -> list[str]:
    """Call wrk for as long as the workload takes."""
    seconds = workload.seconds
    command = ["wrk", "--latency", "--threads=1", f"--connections={workload.connections}", f"--duration={seconds}s"]
    if workload.body:
        script = scratch / f"{workload.key}.lua"
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = string.rep([[{workload.body}]], {workload.times})\n"
            "wrk.headers['Content-Type'] = 'application/json'\n",
            encoding="utf-8",
        )
        command.append(f"--script={script}")
    return [*command, url]


def parse_wrk(output: str) -> Load:
    """Read what wrk prints with --latency. Raises NoLoadError."""
    total = re.search(rf"(\d+) requests in {DURATION}", output)
    p50, p99 = (re.search(rf"^ +{percent}% +{DURATION}", output, re.MULTILINE) for percent in (50, 99))
    if total is None or p50 is None or p99 is None:
        raise NoLoadError(f"wrk said: {_last_line(output)}")
    refused = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", output)))
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    good = int(total[1]) - refused
    if good <= 0:
        raise NoLoadError(f"no request was answered well, {refused} were answered badly")
    return Load(
        requests=good,
        seconds=_seconds(total[2], total[3]),
        p50=_seconds(p50[1], p50[2]),
        p99=_seconds(p99[1], p99[2]),
        errors=refused + (sum(map(int, broken.groups())) if broken else 0),
    )


def h2load_command(workload: Workload, url: str, *, requests: int, log: Path, scratch: Path) -> list[str]:
    """Call h2load for so many requests. It appends a line for each to ``log``; its own output has no percentiles."""
    command = ["h2load", f"--requests={requests}", f"--clients={workload.connections}", f"--log-file={log}"]
    command.append(f"--max-concurrent-streams={workload.streams}" if workload.http2 else "--h1")
    if workload.body:
        body = scratch / f"{workload.key}.body"
        body.write_text(workload.body * workload.times, encoding="utf-8")
        command += [f"--data={body}", "--header=content-type: application/json"]
    return [*command, url]


def parse_h2load(output: str, log: str) -> Load:
    """Read what h2load prints and its log: start, status and microseconds, tab-separated. Raises NoLoadError."""
    finished = re.search(rf"finished in {DURATION},", output)
    total = re.search(r"requests: (\d+) total", output)
    rows = [line.split("\t") for line in log.splitlines()]
    times = sorted(int(micros) for _start, status, micros in rows if status.startswith(("2", "3")))
    if finished is None or total is None or not times:
        raise NoLoadError(f"h2load said: {_last_line(output)}")
    return Load(
        requests=len(times),
        seconds=_seconds(finished[1], finished[2]),
        p50=percentile(times, 50) / 1e6,
        p99=percentile(times, 99) / 1e6,
        errors=int(total[1]) - len(times),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that ``percent`` % of them do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


DURATION = r"([\d.]+)(us|ms|s|m|h)"


def _seconds(number: str, unit: str) -> float:
    return float(number) * UNITS[unit]


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["nothing"])[-1]
