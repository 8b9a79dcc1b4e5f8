"""The records that rooms hand to each other."""
