"""What the gateway costs, measured beside what it stands between and what it is compared with.

    python -m benchmarks            the whole run, some eight minutes
    python -m benchmarks --quick    one round without peers, under a minute and a half
    python -m benchmarks profile    where the gateway's time goes, as microseconds per request
    python -m benchmarks storm      requests cancelled at random, for our transport and for httpx's
    python -m benchmarks ab --base REV      a revision and the working tree in turn: has a change made it cheaper?
    python -m benchmarks floods     clients that mean harm, and what a good one notices of them; half a minute
    python -m benchmarks soak       steady load and every fault at once, 10 minutes: memory, descriptors, ends
    python -m benchmarks isolation  what users of one service notice of another that hangs; four minutes

All is measured in one run, in rounds: figures of two runs are not comparable on a machine that others use too, the
ratios within a round are. What never lives here: what the gateway or its tests need.
"""
