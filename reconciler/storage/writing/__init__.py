"""What is written: one transaction, small or large, and a whole database anew."""
