"""The unit as an OSDP reader of a hospital's own controller, with a secure channel from the first frame."""
