"""What is made of the records: one table, and one page with the cases that must be looked at first."""
