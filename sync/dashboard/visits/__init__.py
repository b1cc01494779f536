"""People who are here for a while: who answers for them, and until when every door of a site knows them."""
