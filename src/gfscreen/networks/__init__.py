"""Glance and Focus: `models` are the networks and their weights on disk, `engines` run them."""
