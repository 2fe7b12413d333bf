"""The report: Tables 2, 3 and 4, figures, and one HTML page with a viewer that opens from disk."""
