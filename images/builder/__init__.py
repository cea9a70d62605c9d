"""Builds the product's images from Debian packages, without a public image registry."""
