"""What is due, in which order, and running it."""
