"""Learned association: logged samples, the model that learns from them, and the scorer that runs it."""
