"""How a new unit gets its place: a site's authority, a claim for each unit, and the service that takes it."""
