"""The service manager: readiness, watchdog, and the descriptors that it keeps for us."""
