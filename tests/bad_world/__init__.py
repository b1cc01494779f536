"""A bad day for a unit, with real processes and no special hardware: `scripts/bad-world`.

Each scenario is a function that brings one kind of trouble about, and returns what the person saw, what the
log says and how it recovered; it raises AssertionError when the unit did not end in its defined state.
"""
