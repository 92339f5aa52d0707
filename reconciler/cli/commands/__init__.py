"""One command, one file; imported when it runs."""
