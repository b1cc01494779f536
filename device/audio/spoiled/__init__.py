"""What lies over speech or was done to it: mirrored bands, lines, lost blocks, the door's own tone, other voices."""
