"""What is read: the state that runs, as of one moment, and checked as it is read."""
