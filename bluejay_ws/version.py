"""The version of bluejay_ws, in the one place that packaging and reports read it from."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
