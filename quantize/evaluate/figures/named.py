"""How the parts of an evaluation name the models and the groups of people that they measured."""

from __future__ import annotations

PRODUCT_MODEL = "int8"
TFLITE_MODEL = "tflite"
FLOAT_MODEL = "float"
PEER_MODEL = "resemblyzer"
POOLED = "all"
"""Everybody together, beside corpora, accents and genders."""
