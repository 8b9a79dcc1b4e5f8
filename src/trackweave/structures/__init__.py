"""The records that packages hand to each other."""
