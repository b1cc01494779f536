"""From a unit's batch to a receipt: verified, placed, stored, answered, by any number of workers."""
