"""From float graphs to eight bits, on ranges that were learned from speech and committed."""
