"""The test kit: a network in memory, scripted backends, clients and an orphan check, all on trio's clock.

What never lives here: what the gateway itself needs to run. Nothing outside this package imports it.
"""
