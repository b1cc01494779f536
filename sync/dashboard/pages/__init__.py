"""The pages, one module for each part of the menu. A page is a function from a call to a response."""
