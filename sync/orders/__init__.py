"""What a site tells its units, signed and counted: commands, and the document of how a unit should be."""
