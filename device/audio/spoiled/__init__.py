"""What lies over speech or was done to it: mirrored bands, steady lines and bursts, the door's own tone."""
