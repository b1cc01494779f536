"""What a unit does to be as its fleet asks: apply, rehearse, go back, hold and share people."""
