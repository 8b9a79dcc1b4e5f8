"""The engine of the SAM 2 family: one feature store per run, objects in batches, memories of bounded size.

`backends.py` (through transformers) and `meta.py` (Meta's own package) load a model and say how it is called.
"""
