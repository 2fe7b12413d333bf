"""What a cohort on Ray costs and withstands: its overhead, very many items, kills. Needs the extra `cohort`."""
