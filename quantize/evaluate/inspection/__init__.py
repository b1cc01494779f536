"""How far `ostiary inspect` may be believed: real, synthetic, edited and re-encoded recordings."""
