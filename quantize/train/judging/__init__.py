"""From scores to LLRs, and what the door's operating points do to people and to attacks."""
