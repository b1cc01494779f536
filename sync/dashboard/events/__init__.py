"""What happened: the list, one event explained, one person, exports."""
