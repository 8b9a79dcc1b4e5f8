"""Predictors: what moves masks through a video. `base` is the protocol, `registry` leads from a name to one."""
