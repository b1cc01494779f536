"""New events to every open page."""
