"""What lies over speech or was done to it: mirrored bands, steady lines, lost blocks, the door's own tone."""
