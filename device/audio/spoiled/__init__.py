"""What lies over speech or was done to it: mirrored bands, lines, lost blocks, the own tone, other voices."""
