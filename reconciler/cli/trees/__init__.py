"""What lies on the disk or in a commit, as the commands read it: files, edits, keys in clear."""
