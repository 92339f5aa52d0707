"""The database file and its keeping: opened, checked, checkpointed, and the place where it lies."""
