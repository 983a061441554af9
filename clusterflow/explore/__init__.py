"""Samples new configurations by molecular dynamics."""
