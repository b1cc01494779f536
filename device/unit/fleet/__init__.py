"""How a unit follows its fleet: apply, rehearse, go back, hold and share people."""
