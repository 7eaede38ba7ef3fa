"""Faults caused again and again on a real fleet, and figures measured meanwhile.

    python -m drills admission | supervision      (make drill, make drill-admission, …)

Slower than a test may be: `make test` has a short form of each.
"""
