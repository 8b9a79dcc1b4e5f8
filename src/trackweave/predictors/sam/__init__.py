"""The engine of the SAM 2 family: one feature store, prompt batches, memories of bounded size.

The backends (`sam2`, `sam2_hf`, `edgetam`, `sam3_tracker`) beside this package load a model and say how it is called.
"""
