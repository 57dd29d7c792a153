"""What is asked of each subject, and what comes of it: values only."""

from dataclasses import dataclass

PATH = "/orders?customer=c-1"
"""What is asked for, but for the large bodies."""
MEGABYTES = 8
DOWNLOAD, UPLOAD = "/download", "/upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A closed loop: each of ``connections`` x ``streams`` sends its next request when it has its answer."""

    key: str
    title: str
    connections: int
    streams: int = 0
    """Concurrent requests on each connection, over HTTP/2; 0 is HTTP/1.1, one at a time."""
    path: str = PATH
    """Behind the prefix that all requests to the backend have."""
    body: str = ""
    """Of a POST, in ASCII; without one it is a GET."""
    times: int = 1
    """How often the body is repeated, to make a large one."""
    seconds: int = 1
    """That each round of it takes: whole ones, wrk knows no others."""

    @property
    def http2(self) -> bool:
        """Whether it is HTTP/2, with prior knowledge."""
        return self.streams > 0

    @property
    def bulk(self) -> bool:
        """Whether it moves megabytes: then what counts is what a byte costs."""
        return self.path != PATH


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw. Times are in seconds."""

    requests: int
    """Those that were answered as they should be."""
    seconds: float
    p50: float
    p99: float
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are resident, of all processes together."""

    before: int
    peak: int

    @property
    def grown(self) -> int:
        """How much more there was at most."""
        return self.peak - self.before


@dataclass(frozen=True, slots=True)
class Sample:
    """One workload on one subject in one round."""

    load: Load
    cpu: float
    """Seconds of user and system time that the measured processes used meanwhile."""
    memory: Memory = Memory(0, 0)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.load.requests / self.load.seconds

    @property
    def cpu_per_request(self) -> float:
        """In microseconds."""
        return self.cpu / self.load.requests * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Clients that were idle, and what an active one noticed."""

    wanted: int
    held: int
    """As many as were still connected at the end."""
    before: int
    """Bytes resident without them."""
    after: int
    """And with them."""
    alone: dict[int, Sample]
    """Of the active client without them, by round."""
    beside: dict[int, Sample]
    """Beside them."""


ORDER = (
    '{"order_id": "o-1", "customer_id": "c-1", "items": [{"product_id": "p-1", "quantity": 2}], "total_amount": 9.5}'
)

WORKLOADS = (
    Workload(key="get-1", title="GET, 1 connection", connections=1),
    Workload(key="get-32", title="GET, 32 connections", connections=32),
    Workload(key="get-100", title="GET, 100 connections", connections=100),
    # Three seconds: a thousand connections that are opened are a good part of what one second has.
    Workload(key="get-1000", title="GET, 1,000 connections", connections=1000, seconds=3),
    Workload(key="post-32", title="POST of 108 bytes, 32 connections", connections=32, body=ORDER),
    Workload(key="h2-80", title="GET over HTTP/2, 8 connections of 10 streams", connections=8, streams=10),
    Workload(key="download", title="GET of 8 MB, 4 connections", connections=4, path=DOWNLOAD, seconds=2),
    Workload(
        key="upload",
        title="POST of 8 MB, 4 connections",
        connections=4,
        path=UPLOAD,
        body="0123456789abcdef",
        times=MEGABYTES * 65_536,
        seconds=2,
    ),
)
