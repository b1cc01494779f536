"""`ostiary evaluate`: what the door's checks do on recordings, as figures with intervals and a page."""
