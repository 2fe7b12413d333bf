"""Odd, wrong and damaged inputs. Read in this order: `case`, the four lists of cases, `run`, `judge`."""
