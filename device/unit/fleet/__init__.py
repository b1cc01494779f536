"""What a unit does to be as its fleet wants it: apply, rehearse, go back, hold and share people."""
