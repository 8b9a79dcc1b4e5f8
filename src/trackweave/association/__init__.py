"""Learned association: the samples it learns from, and what is made of them."""
