"""The door as a reader at a hospital's own controller: OSDP, a secure channel from the first frame."""
