"""How a new unit gets its place: a site's authority, claims for one unit each, and who redeems them."""
