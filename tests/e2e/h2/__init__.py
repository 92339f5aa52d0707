"""HTTP/2 to backends, with all that rides on it."""
